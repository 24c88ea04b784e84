#include "vmm/kvm/vm.h"

#include "vmm/kvm/abi.h"
#include "vmm/kvm/ioctl.h"
#include "vmm/kvm/variable.h"

namespace calf::kvm {

Result<void> Vm::set_memory_slot(uint32_t slot, uint64_t guest_address, std::span<uint8_t> host,
                                 bool read_only) {
  kvm_userspace_memory_region region{};
  region.slot = slot;
  region.flags = read_only ? KVM_MEM_READONLY : 0;
  region.guest_phys_addr = guest_address;
  region.memory_size = host.size();
  region.userspace_addr = reinterpret_cast<uintptr_t>(host.data());
  return call_void(fd_.get(), KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", &region);
}

Result<void> Vm::set_tss_address(uint32_t address) {
  return call_void(fd_.get(), KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR",
                   static_cast<unsigned long>(address));
}

Result<void> Vm::set_identity_map_address(uint64_t address) {
  return call_void(fd_.get(), KVM_SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR", &address);
}

Result<Vcpu> Vm::create_vcpu(unsigned id) {
  TRY(int fd, call(fd_.get(), KVM_CREATE_VCPU, "KVM_CREATE_VCPU", static_cast<unsigned long>(id)));
  return Vcpu::make(Fd(fd), run_size_);
}

Result<void> Vm::create_irqchip() {
  return call_void(fd_.get(), KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP", 0);
}

Result<void> Vm::create_pit() {
  kvm_pit_config config{};
  config.flags = KVM_PIT_SPEAKER_DUMMY;
  return call_void(fd_.get(), KVM_CREATE_PIT2, "KVM_CREATE_PIT2", &config);
}

Result<void> Vm::set_irq_line(uint32_t gsi, bool high) {
  kvm_irq_level level{};
  level.irq = gsi;
  level.level = high ? 1 : 0;
  return call_void(fd_.get(), KVM_IRQ_LINE, "KVM_IRQ_LINE", &level);
}

Result<void> Vm::set_gsi_routing(std::span<const kvm_irq_routing_entry> entries) {
  Variable<IrqRoutingHeader, kvm_irq_routing_entry> routing(entries);
  routing.header().count = static_cast<uint32_t>(entries.size());
  return call_void(fd_.get(), kSetGsiRouting, "KVM_SET_GSI_ROUTING", &routing.header());
}

Result<void> Vm::attach_irqfd(uint32_t gsi, int event_fd) {
  kvm_irqfd irqfd{};
  irqfd.fd = static_cast<uint32_t>(event_fd);
  irqfd.gsi = gsi;
  return call_void(fd_.get(), KVM_IRQFD, "KVM_IRQFD", &irqfd);
}

Result<void> Vm::detach_irqfd(uint32_t gsi, int event_fd) {
  kvm_irqfd irqfd{};
  irqfd.fd = static_cast<uint32_t>(event_fd);
  irqfd.gsi = gsi;
  irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
  return call_void(fd_.get(), KVM_IRQFD, "KVM_IRQFD", &irqfd);
}

Result<void> Vm::signal_msi(uint64_t address, uint32_t data) {
  kvm_msi msi{};
  msi.address_lo = static_cast<uint32_t>(address);
  msi.address_hi = static_cast<uint32_t>(address >> 32);
  msi.data = data;
  return call_void(fd_.get(), KVM_SIGNAL_MSI, "KVM_SIGNAL_MSI", &msi);
}

Result<kvm_irqchip> Vm::irqchip(uint32_t which) const {
  kvm_irqchip state{};
  state.chip_id = which;
  TRY_VOID(call(fd_.get(), KVM_GET_IRQCHIP, "KVM_GET_IRQCHIP", &state));
  return state;
}

Result<void> Vm::set_irqchip(const kvm_irqchip& state) {
  return call_void(fd_.get(), KVM_SET_IRQCHIP, "KVM_SET_IRQCHIP", &state);
}

Result<kvm_pit_state2> Vm::pit() const {
  kvm_pit_state2 state{};
  TRY_VOID(call(fd_.get(), KVM_GET_PIT2, "KVM_GET_PIT2", &state));
  return state;
}

Result<void> Vm::set_pit(const kvm_pit_state2& state) {
  return call_void(fd_.get(), KVM_SET_PIT2, "KVM_SET_PIT2", &state);
}

namespace {
kvm_ioeventfd doorbell(Vm::Space space, uint64_t address, uint32_t length, int event_fd) {
  kvm_ioeventfd request{};
  request.addr = address;
  request.len = length;
  request.fd = event_fd;
  request.flags = space == Vm::Space::kPio ? KVM_IOEVENTFD_FLAG_PIO : 0;
  return request;
}
}  // namespace

Result<void> Vm::attach_ioeventfd(Space space, uint64_t address, uint32_t length, int event_fd) {
  kvm_ioeventfd request = doorbell(space, address, length, event_fd);
  return call_void(fd_.get(), KVM_IOEVENTFD, "KVM_IOEVENTFD", &request);
}

Result<void> Vm::detach_ioeventfd(Space space, uint64_t address, uint32_t length, int event_fd) {
  kvm_ioeventfd request = doorbell(space, address, length, event_fd);
  request.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
  return call_void(fd_.get(), KVM_IOEVENTFD, "KVM_IOEVENTFD", &request);
}

Result<void> Vm::hasten_grace_period(uint64_t unused_address) {
  kvm_coalesced_mmio_zone zone{};
  zone.addr = unused_address;
  zone.size = sizeof(uint32_t);
  TRY_VOID(call_void(fd_.get(), KVM_REGISTER_COALESCED_MMIO, "KVM_REGISTER_COALESCED_MMIO", &zone));
  return call_void(fd_.get(), KVM_UNREGISTER_COALESCED_MMIO, "KVM_UNREGISTER_COALESCED_MMIO",
                   &zone);
}

Result<void> Vm::exit_on_msr_writes(uint32_t first, uint32_t last) {
  kvm_enable_cap enable{};
  enable.cap = KVM_CAP_X86_USER_SPACE_MSR;
  enable.args[0] = KVM_MSR_EXIT_REASON_FILTER;
  TRY_VOID(call_void(fd_.get(), KVM_ENABLE_CAP, "KVM_ENABLE_CAP(X86_USER_SPACE_MSR)", &enable));
  uint64_t nobody = 0;  // a clear bit denies
  kvm_msr_filter filter{};
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  filter.ranges[0].flags = KVM_MSR_FILTER_WRITE;
  filter.ranges[0].base = first;
  filter.ranges[0].nmsrs = last - first + 1;
  filter.ranges[0].bitmap = reinterpret_cast<uint8_t*>(&nobody);
  return call_void(fd_.get(), KVM_X86_SET_MSR_FILTER, "KVM_X86_SET_MSR_FILTER", &filter);
}

Result<kvm_clock_data> Vm::clock() const {
  kvm_clock_data data{};
  TRY_VOID(call(fd_.get(), KVM_GET_CLOCK, "KVM_GET_CLOCK", &data));
  return data;
}

Result<void> Vm::set_clock(const kvm_clock_data& clock) {
  return call_void(fd_.get(), KVM_SET_CLOCK, "KVM_SET_CLOCK", &clock);
}

}  // namespace calf::kvm
