// LatePit: the timer's ports until KVM has a timer there.
//
// A guest with a kernel of today never touches the 8254, and to take one that KVM has made apart
// again costs the end of a run as much as all the rest of it (KVM waits for grace periods of RCU).
// So a guest that is entered without BIOS gets its timer when it touches one of the ports:
//
//     first access ──> here ──> IrqController::with_pit(): KVM_CREATE_PIT2, the access on its state
//     later ones   ──> KVM, which has the ports now
#pragma once

#include "block/base/log.h"
#include "devices/core/device.h"
#include "vmm/irq.h"

namespace calf::vmm {

class LatePit {
 public:
  static constexpr uint64_t kWindow = 4;

  // Both outlive this object.
  LatePit(IrqController& irq, Log& log);

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

  IrqController& irq_;
  Log& log_;
  RateLimit messages_{1};
  Ports timer_;
  Ports speaker_;
};

}  // namespace calf::vmm
