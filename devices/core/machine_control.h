// What a chip may ask of the machine it sits in: reset, power, exit.
//
// Called from vCPU threads in the middle of a register access. An implementation only notes the
// request and wakes whoever acts on it; it never waits, and it returns to the chip, which finishes
// the access normally. A chip calls without holding its own mutex.
#pragma once

#include <cstdint>

namespace calf::devices {

enum class ResetReason : uint8_t {
  kKeyboardController,  // 0xFE to port 0x64, or bit 0 of its output port cleared
  kPort92,              // "fast reset"
  kResetControl,        // port 0xCF9
  kAcpi,                // the reset register of the FADT
  kTripleFault,         // the vCPU itself
  kUser,                // a person or a program outside
};

// What the guest said about itself by pvpanic.
enum class PanicKind : uint8_t {
  kPanicked,     // the guest's kernel is dead
  kCrashLoaded,  // it goes on in a crash kernel
};

class MachineControl {
 public:
  virtual ~MachineControl() = default;
  // All vCPUs and devices back to their power-on state, RAM kept.
  virtual void request_reset(ResetReason reason) = 0;
  // ACPI S5: the machine is off, the program ends with status 0.
  virtual void request_power_off() = 0;
  // isa-debug-exit: the program ends with status (value << 1) | 1.
  virtual void request_debug_exit(uint32_t value) = 0;
  virtual void guest_panicked(PanicKind kind) = 0;
};

}  // namespace calf::devices
