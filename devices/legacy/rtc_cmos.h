// RtcCmos: the clock chip and its battery-backed RAM (Motorola MC146818A data sheet).
//
//   0x70  index (bit 7, the NMI mask, is ignored)      0x71  data
//
//   0x00–0x09  time, alarm, date          0x0A–0x0D  registers A to D
//   0x0E–0x7F  RAM; the PC keeps memory sizes, the century and the shutdown byte there
//
// The time is the host's wall clock plus an offset that the guest changes by setting the clock.
// Nothing ticks: flags are worked out when somebody looks, and the timer is armed only for an
// interrupt that is enabled and not yet pending, so an idle guest costs nothing.
//
// Not supported: daylight saving, the square-wave output, other time bases than 32.768 kHz.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "block/base/mutex.h"
#include "devices/core/clock.h"
#include "devices/core/device.h"
#include "devices/core/irq.h"

namespace calf::devices {

class RtcCmos final : public ByteDevice {
 public:
  static constexpr uint64_t kWindow = 2;
  static constexpr size_t kSize = 128;

  enum Register : uint8_t {
    kSeconds = 0x00,
    kSecondsAlarm = 0x01,
    kMinutes = 0x02,
    kMinutesAlarm = 0x03,
    kHours = 0x04,
    kHoursAlarm = 0x05,
    kDayOfWeek = 0x06,
    kDayOfMonth = 0x07,
    kMonth = 0x08,
    kYear = 0x09,
    kRegisterA = 0x0a,
    kRegisterB = 0x0b,
    kRegisterC = 0x0c,
    kRegisterD = 0x0d,
    kShutdownStatus = 0x0f,
    kEquipment = 0x14,
    kBaseMemoryLow = 0x15,       // KiB, 16 bits
    kExtendedMemoryLow = 0x17,   // KiB above 1 MiB, 16 bits, at most 63 MiB
    kExtendedMemory2Low = 0x30,  // the same again
    kCentury = 0x32,             // the FADT's CENTURY says so
    kMemoryAbove16MLow = 0x34,   // 64 KiB blocks between 16 MiB and 4 GiB, 16 bits
    kMemoryAbove4GLow = 0x5b,    // 64 KiB blocks above 4 GiB, 24 bits
  };
  enum RegisterABits : uint8_t {
    kRateMask = 0x0f,
    kDividerMask = 0x70,
    kDivider32768 = 0x20,
    kDividerReset = 0x60,  // and 0x70: the clock stands
    kUpdateInProgress = 0x80,
  };
  enum RegisterBBits : uint8_t {
    k24Hour = 1 << 1,
    kBinary = 1 << 2,
    kSquareWave = 1 << 3,
    kUpdateInterrupt = 1 << 4,
    kAlarmInterrupt = 1 << 5,
    kPeriodicInterrupt = 1 << 6,
    kSet = 1 << 7,
  };
  enum RegisterCBits : uint8_t {
    kUpdateFlag = 1 << 4,
    kAlarmFlag = 1 << 5,
    kPeriodicFlag = 1 << 6,
    kFlags = kUpdateFlag | kAlarmFlag | kPeriodicFlag,
    kInterruptRequest = 1 << 7,
  };
  static constexpr uint8_t kValidRam = 0x80;      // register D
  static constexpr uint8_t kAnyAlarm = 0xc0;      // alarm bytes from here on match always
  static constexpr uint8_t kAfternoonBit = 0x80;  // of the hours in 12-hour mode

  // The clock shows wall time plus `offset`. All references outlive the chip.
  RtcCmos(IrqLine& irq, TimerFactory& timers, Clock& clock, std::chrono::nanoseconds offset = {});

  uint8_t read_byte(uint64_t offset) override;
  void write_byte(uint64_t offset, uint8_t value) override;
  // The interrupt enables go off; time and RAM are on the battery.
  void reset() override;

  // The firmware's access to the same bytes. An index of 128 or more is taken modulo 128, as the
  // port does.
  uint8_t read_cmos(uint8_t index);
  void write_cmos(uint8_t index, uint8_t value);
  // What software without E820 looks at. Bytes of RAM below and above 4 GiB.
  void set_memory_size(uint64_t below_4g, uint64_t above_4g);

 private:
  struct State {
    uint8_t index = 0;
    // All bytes. The time registers in it count only while the clock stands; flags of C are here.
    std::array<uint8_t, kSize> ram{};
    std::chrono::nanoseconds offset{0};  // clock minus wall
    // While the clock stands: the part of the second it stopped at.
    std::chrono::nanoseconds fraction{0};
    int64_t last_second = 0;         // up to here update and alarm flags are worked out
    uint64_t last_period_ticks = 0;  // the same for the periodic flag, in 32.768 kHz ticks
  };

  uint8_t read_register(uint8_t index) CALF_REQUIRES(mutex_);
  void write_register(uint8_t index, uint8_t value) CALF_REQUIRES(mutex_);
  void write_control(uint8_t index, uint8_t value) CALF_REQUIRES(mutex_);
  bool running() const CALF_REQUIRES(mutex_);
  std::chrono::nanoseconds now() const CALF_REQUIRES(mutex_);
  uint64_t period_ticks() const CALF_REQUIRES(mutex_);
  uint64_t tick_count() const CALF_REQUIRES(mutex_);
  void store_time(std::chrono::nanoseconds time) CALF_REQUIRES(mutex_);
  std::chrono::nanoseconds load_time() const CALF_REQUIRES(mutex_);
  void stop_clock() CALF_REQUIRES(mutex_);
  void start_clock() CALF_REQUIRES(mutex_);
  uint8_t encode(unsigned value) const CALF_REQUIRES(mutex_);
  unsigned decode(uint8_t value) const CALF_REQUIRES(mutex_);
  uint8_t encode_hours(unsigned hours) const CALF_REQUIRES(mutex_);
  unsigned decode_hours(uint8_t value) const CALF_REQUIRES(mutex_);
  std::optional<int64_t> next_alarm(int64_t after_second) const CALF_REQUIRES(mutex_);
  void update_flags() CALF_REQUIRES(mutex_);
  void update_irq() CALF_REQUIRES(mutex_);
  void arm_timer() CALF_REQUIRES(mutex_);

  IrqLine& irq_;
  Clock& clock_;
  Mutex mutex_;
  State state_ CALF_GUARDED_BY(mutex_);
  bool irq_level_ CALF_GUARDED_BY(mutex_) = false;
  std::optional<std::chrono::nanoseconds> armed_ CALF_GUARDED_BY(mutex_);
  std::unique_ptr<Timer> timer_;  // last: its callback uses everything above
};

}  // namespace calf::devices
