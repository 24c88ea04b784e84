// KVM's interrupt controllers behind the interfaces that devices know.
//
//     IrqLine      KVM_IRQ_LINE            GSI 0–15: PIC and IOAPIC; 16–23: IOAPIC only
//     MsiRoute     eventfd -> irqfd -> GSI 24…, whose route is the message the guest programmed
//     doorbell     ioeventfd -> eventfd
//
// The timer (GSI 0) is pin 0 of the PIC and pin 2 of the IOAPIC, as on a PC.
#pragma once

#include <linux/kvm.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "block/base/fd.h"
#include "block/base/mutex.h"
#include "devices/core/irq.h"
#include "vmm/kvm/vm.h"

namespace calf::vmm {

class IrqController final : public devices::MsiController, public devices::DoorbellController {
 public:
  // Creates PIC and IOAPIC in `vm`, which outlives this object, and sets their routes.
  static Result<std::unique_ptr<IrqController>> create(kvm::Vm& vm);

  // Lines and routes do not outlive the controller.
  std::unique_ptr<devices::IrqLine> make_line(uint32_t gsi);
  Result<std::unique_ptr<devices::MsiRoute>> make_route() override;

  Result<void> attach(uint64_t address, uint32_t length, int event_fd) override;
  void detach(uint64_t address, uint32_t length, int event_fd) override;

  // The PIT is created when it is asked for (late_pit.h says when). Any thread.
  // Reads or changes its state.
  using PitAccess = std::function<void(kvm_pit_state2&)>;
  Result<void> with_pit(const PitAccess& access);
  // Whether this call has created it.
  Result<bool> need_pit();

  // PIC, IOAPIC and PIT as they were when they were created. No vCPU runs.
  Result<void> reset();
  // PIC and PIT as a PC's firmware leaves them (firmware::ChipSetup), the PIT as soon as it is
  // there. No vCPU runs.
  Result<void> apply_bios_setup();

 private:
  class Line;
  class Route;

  explicit IrqController(kvm::Vm& vm) : vm_(vm) {}
  Result<void> set_message(uint32_t gsi, uint64_t address, uint32_t data);
  Result<void> create_pit() CALF_REQUIRES(pit_mutex_);
  Result<void> change_pit(const PitAccess& access) CALF_REQUIRES(pit_mutex_);

  kvm::Vm& vm_;
  std::vector<kvm_irqchip> initial_chips_;
  Mutex pit_mutex_;
  std::optional<kvm_pit_state2> initial_pit_ CALF_GUARDED_BY(pit_mutex_);  // once it is there
  bool bios_started_pit_ CALF_GUARDED_BY(pit_mutex_) = false;
  Mutex mutex_;
  std::vector<kvm_irq_routing_entry> routes_ CALF_GUARDED_BY(mutex_);
  uint32_t next_gsi_ CALF_GUARDED_BY(mutex_) = 24;
};

}  // namespace calf::vmm
