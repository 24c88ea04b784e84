// A machine that notes what its chips ask for.
#pragma once

#include <optional>

#include "devices/core/machine_control.h"

namespace calf::devices {

class FakeMachine final : public MachineControl {
 public:
  void request_reset(ResetReason reason) override {
    ++resets;
    last_reset = reason;
  }
  void request_power_off() override { ++power_offs; }
  void request_debug_exit(uint32_t value) override { debug_exit = value; }
  void guest_panicked(PanicKind kind) override { panic = kind; }

  int resets = 0;
  int power_offs = 0;
  std::optional<ResetReason> last_reset;
  std::optional<uint32_t> debug_exit;
  std::optional<PanicKind> panic;
};

}  // namespace calf::devices
