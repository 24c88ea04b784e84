#include "vmm/late_pit.h"

#include "firmware/bios/bios.h"
#include "firmware/platform.h"
#include "vmm/pit_access.h"

namespace calf::vmm {
namespace {

constexpr uint64_t kPitHertz = 1'193'182;
// 54.9 ms.
constexpr std::chrono::nanoseconds kTick(uint64_t{firmware::ChipSetup::kPitChannel0Count} *
                                         1'000'000'000 / kPitHertz);

}  // namespace

LatePit::LatePit(IrqController& irq, devices::TimerFactory& timers, Log& log)
    : irq_(irq),
      log_(log),
      line_(irq.make_line(firmware::kTimerIrq)),
      alarm_(timers.make_timer([this] { first_tick(); })),
      timer_(*this, read_pit, write_pit),
      speaker_(
          *this, [](kvm_pit_state2& state, unsigned) { return read_speaker(state); },
          [](kvm_pit_state2& state, unsigned, uint8_t value) { write_speaker(state, value); }) {}

void LatePit::start_ticks(std::chrono::nanoseconds now) {
  alarm_->arm(now + kTick);
}

void LatePit::reset() {
  alarm_->disarm();
}

void LatePit::first_tick() {
  Result<bool> created = irq_.need_pit();
  if (!created.ok()) return report(created.error());
  // If it was there already, the guest touched it in the meantime and it ticks by itself.
  if (*created) line_->pulse();
}

void LatePit::access(const IrqController::PitAccess& access) {
  Result<void> done = irq_.with_pit(access);
  if (!done.ok()) report(done.error());
}

// Without a timer the guest reads zeroes and waits for a tick that never comes: it must be told
// why.
void LatePit::report(const Error& error) {
  if (messages_.allow()) log_.error("the guest's timer could not be made: {}", error.message());
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
