#include "vmm/late_pit.h"

#include "vmm/pit_access.h"

namespace calf::vmm {

LatePit::LatePit(IrqController& irq, Log& log)
    : irq_(irq),
      log_(log),
      timer_(*this, read_pit, write_pit),
      speaker_(
          *this, [](kvm_pit_state2& state, unsigned) { return read_speaker(state); },
          [](kvm_pit_state2& state, unsigned, uint8_t value) { write_speaker(state, value); }) {}

// Without a timer the guest reads zeroes and waits for a tick that never comes: it must be told
// why.
void LatePit::access(const IrqController::PitAccess& access) {
  Result<void> done = irq_.with_pit(access);
  if (done.ok() || !messages_.allow()) return;
  log_.error("the guest's timer could not be made: {}", done.error().message());
}

uint8_t LatePit::Ports::read_byte(uint64_t offset) {
  uint8_t value = 0;
  owner_.access(
      [&](kvm_pit_state2& state) { value = read_(state, static_cast<unsigned>(offset)); });
  return value;
}

void LatePit::Ports::write_byte(uint64_t offset, uint8_t value) {
  owner_.access(
      [&](kvm_pit_state2& state) { write_(state, static_cast<unsigned>(offset), value); });
}

}  // namespace calf::vmm
