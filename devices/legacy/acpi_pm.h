// AcpiPm: the fixed hardware of ACPI (ACPI 6.5, section 4.8).
//
//   +0x00  PM1a_EVT_BLK  status, enable     power button, timer carry
//   +0x04  PM1a_CNT_BLK  control            SCI_EN (always 1), sleep type and go
//   +0x08  PM_TMR_BLK    32-bit timer       3.579545 MHz
//   +0x0c  reset register                   FADT RESET_REG, value kResetValue
//   +0x10  GPE0_BLK      16 status, 16 enable
//
// There is no SMM and so no legacy mode: the FADT says SMI_CMD = 0, TMR_VAL_EXT, RESET_REG_SUP,
// FIX_RTC (no RTC wake status), SLP_BUTTON (none); \_S5 is sleep type kSleepTypeS5. SCI is active
// high, level (a MADT override for IRQ 9 says so).
//
// Not supported: sleep states other than S5, wake, processor throttling.
#pragma once

#include <cstdint>
#include <memory>

#include "block/base/mutex.h"
#include "devices/core/clock.h"
#include "devices/core/device.h"
#include "devices/core/irq.h"
#include "devices/core/machine_control.h"

namespace calf::devices {

class AcpiPm final : public Device {
 public:
  static constexpr uint64_t kWindow = 0x20;
  enum Offset : uint8_t {
    kPm1Status = 0x00,
    kPm1Enable = 0x02,
    kPm1Control = 0x04,
    kPmTimer = 0x08,
    kReset = 0x0c,
    kGpe0Status = 0x10,
    kGpe0Enable = 0x12,
  };
  static constexpr uint8_t kPm1EventLength = 4;
  static constexpr uint8_t kPm1ControlLength = 2;
  static constexpr uint8_t kPmTimerLength = 4;
  static constexpr uint8_t kGpe0Length = 4;
  enum Pm1Event : uint16_t {
    kTimerCarry = 1 << 0,
    kGlobalLock = 1 << 5,
    kPowerButton = 1 << 8,
    kRealTimeClock = 1 << 10,  // never raised, but Linux wants to see that it can be enabled
    kWake = 1 << 15,           // status only
    kPm1Events = kTimerCarry | kGlobalLock | kPowerButton | kRealTimeClock,
  };
  enum Pm1ControlBits : uint16_t {
    kSciEnable = 1 << 0,
    kBusMasterReload = 1 << 1,
    kSleepTypeShift = 10,
    kSleepTypeMask = 7 << kSleepTypeShift,
    kSleepEnable = 1 << 13,  // write-only
  };
  // As on QEMU's machines, so that a small guest's bare `out 0x604, 0x2000` powers off here too.
  static constexpr uint8_t kSleepTypeS5 = 0;
  static constexpr uint8_t kResetValue = 1;
  static constexpr uint64_t kTimerHz = 3579545;

  // All outlive the chip. `sci` is level-triggered.
  AcpiPm(MachineControl& machine, IrqLine& sci, TimerFactory& timers, Clock& clock);

  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;
  void reset() override;

  // The guest is asked to power off. Any thread.
  void press_power_button();
  // A general-purpose event, 0 to 15. Any thread.
  void raise_gpe(unsigned number);

 private:
  struct State {
    uint16_t pm1_status = 0;
    uint16_t pm1_enable = 0;
    uint16_t pm1_control = kSciEnable;
    uint16_t gpe0_status = 0;
    uint16_t gpe0_enable = 0;
    uint64_t carries_seen = 0;  // times that bit 31 of the timer has toggled
  };
  enum class Request : uint8_t { kNone, kReset, kPowerOff };

  uint8_t read_byte(uint64_t offset, uint32_t timer) CALF_REQUIRES(mutex_);
  Request write_byte(uint64_t offset, uint8_t value) CALF_REQUIRES(mutex_);
  Request write_control_high(uint8_t value) CALF_REQUIRES(mutex_);
  uint64_t ticks();
  void update() CALF_REQUIRES(mutex_);

  MachineControl& machine_;
  IrqLine& sci_;
  Clock& clock_;
  Mutex mutex_;
  State state_ CALF_GUARDED_BY(mutex_);
  bool sci_level_ CALF_GUARDED_BY(mutex_) = false;
  bool timer_armed_ CALF_GUARDED_BY(mutex_) = false;
  std::unique_ptr<Timer> timer_;  // last: its callback uses everything above
};

}  // namespace calf::devices
