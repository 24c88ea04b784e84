#include "vmm/irq.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "firmware/bios/bios.h"
#include "firmware/platform.h"

namespace calf::vmm {
namespace {

constexpr std::array<uint32_t, 3> kChips = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
                                            KVM_IRQCHIP_IOAPIC};

kvm_irq_routing_entry pin(uint32_t gsi, uint32_t chip, uint32_t number) {
  kvm_irq_routing_entry entry{};
  entry.gsi = gsi;
  entry.type = KVM_IRQ_ROUTING_IRQCHIP;
  entry.u.irqchip.irqchip = chip;
  entry.u.irqchip.pin = number;
  return entry;
}

std::vector<kvm_irq_routing_entry> pin_routes() {
  std::vector<kvm_irq_routing_entry> routes;
  for (uint32_t irq = 0; irq < 16; ++irq) {
    routes.push_back(pin(irq, irq < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, irq % 8));
  }
  for (uint32_t gsi = 0; gsi < firmware::kIoapicPins; ++gsi) {
    // Pin 2 belongs to the timer; GSI 2 is the PIC's cascade and reaches nothing else.
    if (gsi == firmware::kTimerIoapicPin) continue;
    bool timer = gsi == firmware::kTimerIrq;
    routes.push_back(pin(gsi, KVM_IRQCHIP_IOAPIC, timer ? firmware::kTimerIoapicPin : gsi));
  }
  return routes;
}

void start_as_bios(kvm_pit_state2& pit) {
  kvm_pit_channel_state& ticks = pit.channels[0];
  ticks.mode = firmware::ChipSetup::kPitChannel0Mode;
  ticks.count = firmware::ChipSetup::kPitChannel0Count;
  ticks.gate = 1;
  ticks.rw_mode = 3;
}

}  // namespace

class IrqController::Line final : public devices::IrqLine {
 public:
  Line(kvm::Vm& vm, uint32_t gsi) : vm_(vm), gsi_(gsi) {}
  void set_level(bool high) override {
    // Fails only for a GSI that has no route, which make_line() does not hand out.
    [[maybe_unused]] Result<void> result = vm_.set_irq_line(gsi_, high);
  }

 private:
  kvm::Vm& vm_;
  uint32_t gsi_;
};

class IrqController::Route final : public devices::MsiRoute {
 public:
  Route(IrqController& owner, uint32_t gsi, Fd event)
      : owner_(owner), gsi_(gsi), event_(std::move(event)) {}

  Result<void> set_message(uint64_t address, uint32_t data) override {
    MutexLock lock(mutex_);
    TRY_VOID(owner_.set_message(gsi_, address, data));
    if (attached_) return {};
    // Only now: a signal to an irqfd without a route would be lost, or kept for later.
    TRY_VOID(owner_.vm_.attach_irqfd(gsi_, event_.get()));
    attached_ = true;
    return {};
  }

  void trigger() override {
    uint64_t one = 1;
    // KVM consumes each signal as it is made, so the counter never fills up.
    [[maybe_unused]] ssize_t n = ::write(event_.get(), &one, sizeof one);
  }

 private:
  IrqController& owner_;
  uint32_t gsi_;
  Fd event_;
  Mutex mutex_;
  bool attached_ CALF_GUARDED_BY(mutex_) = false;
};

Result<std::unique_ptr<IrqController>> IrqController::create(kvm::Vm& vm) {
  TRY_VOID(vm.create_irqchip());
  std::unique_ptr<IrqController> controller(new IrqController(vm));
  for (uint32_t chip : kChips) {
    TRY(kvm_irqchip state, vm.irqchip(chip));
    controller->initial_chips_.push_back(state);
  }
  MutexLock lock(controller->mutex_);
  controller->routes_ = pin_routes();
  TRY_VOID(vm.set_gsi_routing(controller->routes_));
  return controller;
}

std::unique_ptr<devices::IrqLine> IrqController::make_line(uint32_t gsi) {
  return std::make_unique<Line>(vm_, gsi);
}

Result<std::unique_ptr<devices::MsiRoute>> IrqController::make_route() {
  Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) {
    return Error::from_errno(errno, "Could not create an eventfd for an interrupt");
  }
  MutexLock lock(mutex_);
  return std::unique_ptr<devices::MsiRoute>(
      std::make_unique<Route>(*this, next_gsi_++, std::move(event)));
}

Result<void> IrqController::set_message(uint32_t gsi, uint64_t address, uint32_t data) {
  kvm_irq_routing_entry entry{};
  entry.gsi = gsi;
  entry.type = KVM_IRQ_ROUTING_MSI;
  entry.u.msi.address_lo = static_cast<uint32_t>(address);
  entry.u.msi.address_hi = static_cast<uint32_t>(address >> 32);
  entry.u.msi.data = data;
  MutexLock lock(mutex_);
  auto known = std::find_if(routes_.begin(), routes_.end(),
                            [gsi](const auto& route) { return route.gsi == gsi; });
  if (known == routes_.end()) {
    routes_.push_back(entry);
  } else {
    bool same = known->u.msi.address_lo == entry.u.msi.address_lo &&
                known->u.msi.address_hi == entry.u.msi.address_hi &&
                known->u.msi.data == entry.u.msi.data;
    if (same) return {};
    *known = entry;
  }
  return vm_.set_gsi_routing(routes_);
}

Result<void> IrqController::attach(uint64_t address, uint32_t length, int event_fd) {
  return vm_.attach_ioeventfd(kvm::Vm::Space::kMmio, address, length, event_fd);
}

void IrqController::detach(uint64_t address, uint32_t length, int event_fd) {
  // Fails only if it was not attached.
  [[maybe_unused]] Result<void> result =
      vm_.detach_ioeventfd(kvm::Vm::Space::kMmio, address, length, event_fd);
}

Result<void> IrqController::reset() {
  for (const kvm_irqchip& chip : initial_chips_)
    TRY_VOID(vm_.set_irqchip(chip));
  MutexLock lock(pit_mutex_);
  bios_started_pit_ = false;
  return initial_pit_ ? vm_.set_pit(*initial_pit_) : Result<void>();
}

Result<bool> IrqController::need_pit() {
  MutexLock lock(pit_mutex_);
  if (initial_pit_) return false;
  TRY_VOID(create_pit());
  return true;
}

Result<void> IrqController::with_pit(const PitAccess& access) {
  MutexLock lock(pit_mutex_);
  if (!initial_pit_) TRY_VOID(create_pit());
  return change_pit(access);
}

Result<void> IrqController::create_pit() {
  TRY_VOID(vm_.create_pit());
  TRY(initial_pit_, vm_.pit());
  return bios_started_pit_ ? change_pit(start_as_bios) : Result<void>();
}

Result<void> IrqController::change_pit(const PitAccess& access) {
  TRY(kvm_pit_state2 state, vm_.pit());
  const kvm_pit_state2 before = state;
  access(state);
  // To set it starts the counters anew.
  if (std::memcmp(&before, &state, sizeof state) == 0) return {};
  return vm_.set_pit(state);
}

Result<void> IrqController::apply_bios_setup() {
  using Setup = firmware::ChipSetup;
  TRY(kvm_irqchip master, vm_.irqchip(KVM_IRQCHIP_PIC_MASTER));
  master.chip.pic.irq_base = Setup::kPicMasterBase;
  master.chip.pic.imr = Setup::kPicMasterMask;
  TRY_VOID(vm_.set_irqchip(master));
  TRY(kvm_irqchip slave, vm_.irqchip(KVM_IRQCHIP_PIC_SLAVE));
  slave.chip.pic.irq_base = Setup::kPicSlaveBase;
  slave.chip.pic.imr = Setup::kPicSlaveMask;
  // Level-triggered: the ACPI interrupt and the PCI lines.
  slave.chip.pic.elcr = 1u << (firmware::kSciIrq - 8);
  for (uint8_t line : firmware::kPciIntxLines)
    slave.chip.pic.elcr = static_cast<uint8_t>(slave.chip.pic.elcr | 1u << (line - 8));
  TRY_VOID(vm_.set_irqchip(slave));
  MutexLock lock(pit_mutex_);
  bios_started_pit_ = true;
  return initial_pit_ ? change_pit(start_as_bios) : Result<void>();
}

}  // namespace calf::vmm
