// The two reset ports of a PC that are not in the keyboard controller.
//
//   0x92   system control port A (PS/2): bit 0 "fast reset", bit 1 A20
//   0xCF9  reset control (PIIX3 and every chipset since): bit 1 hard, bit 2 go
#pragma once

#include <cstdint>

#include "block/base/mutex.h"
#include "devices/core/device.h"
#include "devices/core/machine_control.h"
#include "devices/legacy/a20_gate.h"

namespace calf::devices {

class Port92 final : public ByteDevice {
 public:
  static constexpr uint64_t kWindow = 1;
  enum Bits : uint8_t { kFastReset = 1 << 0, kA20 = 1 << 1 };

  Port92(MachineControl& machine, A20Gate& a20) : machine_(machine), a20_(a20) {}
  uint8_t read_byte(uint64_t offset) override;
  void write_byte(uint64_t offset, uint8_t value) override;
  void reset() override { a20_.set(true); }

 private:
  MachineControl& machine_;
  A20Gate& a20_;
};

// Lies inside the window of PCI's configuration address (0xCF8, which answers only to 32-bit
// accesses), so that device hands byte accesses at its offset 1 to this one.
class ResetControl final : public ByteDevice {
 public:
  static constexpr uint64_t kWindow = 1;
  enum Bits : uint8_t {
    kSystemReset = 1 << 1,  // hard rather than soft; here both are the same
    kResetCpu = 1 << 2,     // 0 to 1: now
    kImplemented = kSystemReset | kResetCpu,
  };

  explicit ResetControl(MachineControl& machine) : machine_(machine) {}
  uint8_t read_byte(uint64_t offset) override;
  void write_byte(uint64_t offset, uint8_t value) override;
  void reset() override;

 private:
  MachineControl& machine_;
  Mutex mutex_;
  uint8_t value_ CALF_GUARDED_BY(mutex_) = 0;
};

}  // namespace calf::devices
