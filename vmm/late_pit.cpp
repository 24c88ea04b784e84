#include "vmm/late_pit.h"

#include "vmm/pit_access.h"

namespace calf::vmm {

// Without a timer the guest reads zeroes and waits for a tick that never comes: it must be told
// why.
void LatePit::access(const IrqController::PitAccess& access) {
  Result<void> done = irq_.with_pit(access);
  if (done.ok() || !messages_.allow()) return;
  log_.error("the guest's timer could not be made: {}", done.error().message());
}

uint8_t LatePit::Timer::read_byte(uint64_t offset) {
  uint8_t value = 0;
  owner_.access(
      [&](kvm_pit_state2& state) { value = read_pit(state, static_cast<unsigned>(offset)); });
  return value;
}

void LatePit::Timer::write_byte(uint64_t offset, uint8_t value) {
  owner_.access(
      [&](kvm_pit_state2& state) { write_pit(state, static_cast<unsigned>(offset), value); });
}

uint8_t LatePit::Speaker::read_byte(uint64_t) {
  uint8_t value = 0;
  owner_.access([&](kvm_pit_state2& state) { value = read_speaker(state); });
  return value;
}

void LatePit::Speaker::write_byte(uint64_t, uint8_t value) {
  owner_.access([&](kvm_pit_state2& state) { write_speaker(state, value); });
}

}  // namespace calf::vmm
