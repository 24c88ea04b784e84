// LatePit: the timer's ports, and its ticks, until KVM has a timer there.
//
// A guest with a kernel of today never touches the 8254, and a boot sector that ends soon sees no
// tick of it; but to take one that KVM has made apart again costs the end of a run as much as all
// the rest of it (KVM waits for grace periods of RCU). So the guest gets its timer when it can tell
// the difference:
//
//     first access      ──> here ──> IrqController::with_pit(): KVM_CREATE_PIT2, the access on it
//     later ones        ──> KVM, which has the ports now
//     first tick is due ──> here ──> KVM_CREATE_PIT2, whose first period begins now, and the tick
//
// Ticks are due where the BIOS has started counter 0.
#pragma once

#include <chrono>
#include <memory>

#include "block/base/log.h"
#include "devices/core/clock.h"
#include "devices/core/device.h"
#include "vmm/irq.h"

namespace calf::vmm {

class LatePit {
 public:
  static constexpr uint64_t kWindow = 4;

  // All outlive this object.
  LatePit(IrqController& irq, devices::TimerFactory& timers, Log& log);

  // The BIOS has started the ticks (IrqController::apply_bios_setup()); it is `now`.
  void start_ticks(std::chrono::nanoseconds now);
  // Power-on: no ticks.
  void reset();

  // The counters and the control word.
  devices::Device& timer() { return timer_; }
  devices::Device& speaker() { return speaker_; }

 private:
  // Some ports, and what an access to them does to the timer's state.
  class Ports final : public devices::ByteDevice {
   public:
    using Read = uint8_t (*)(kvm_pit_state2& state, unsigned index);
    using Write = void (*)(kvm_pit_state2& state, unsigned index, uint8_t value);
    Ports(LatePit& owner, Read on_read, Write on_write)
        : owner_(owner), read_(on_read), write_(on_write) {}
    uint8_t read_byte(uint64_t offset) override;
    void write_byte(uint64_t offset, uint8_t value) override;

   private:
    LatePit& owner_;
    Read read_;
    Write write_;
  };
  void access(const IrqController::PitAccess& access);
  void first_tick();
  void report(const Error& error);

  IrqController& irq_;
  Log& log_;
  const std::unique_ptr<devices::IrqLine> line_;
  const std::unique_ptr<devices::Timer> alarm_;
  RateLimit messages_{1};
  Ports timer_;
  Ports speaker_;
};

}  // namespace calf::vmm
