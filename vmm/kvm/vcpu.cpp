#include "vmm/kvm/vcpu.h"

#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <utility>

#include "vmm/kvm/abi.h"
#include "vmm/kvm/ioctl.h"
#include "vmm/kvm/variable.h"

namespace calf::kvm {
namespace {

void ignore_signal(int) {}

template <class T>
Result<T> get(int fd, unsigned long request, const char* name) {
  T value{};
  TRY_VOID(call(fd, request, name, &value));
  return value;
}

void store_immediate_exit(kvm_run& run, uint8_t value) {
  std::atomic_ref(run.immediate_exit).store(value, std::memory_order_seq_cst);
}

}  // namespace

Result<Vcpu> Vcpu::make(Fd fd, size_t run_size) {
  void* page = ::mmap(nullptr, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return Error::from_errno(errno, "Could not map a vCPU's run page");
  return Vcpu(std::move(fd), static_cast<kvm_run*>(page), run_size);
}

Vcpu::Vcpu(Vcpu&& other) noexcept
    : fd_(std::move(other.fd_)),
      run_(std::exchange(other.run_, nullptr)),
      run_size_(other.run_size_) {}

Vcpu::~Vcpu() {
  if (run_ != nullptr) ::munmap(run_, run_size_);
}

std::span<uint8_t> Vcpu::io_data() {
  uint64_t offset = run_->io.data_offset;
  uint64_t length = uint64_t{run_->io.size} * run_->io.count;
  if (offset > run_size_ || length > run_size_ - offset) return {};
  return {reinterpret_cast<uint8_t*>(run_) + offset, length};
}

Result<RunStatus> Vcpu::run() {
  if (::ioctl(fd_.get(), KVM_RUN, 0) == 0) return RunStatus::kExit;
  // EAGAIN: a vCPU that waits for its startup interrupt was woken for another reason.
  if (errno == EINTR || errno == EAGAIN) return RunStatus::kInterrupted;
  return Error::from_errno(errno, "KVM_RUN");
}

Result<void> Vcpu::complete_exit() {
  store_immediate_exit(*run_, 1);
  Result<RunStatus> status = run();
  // Whoever called interrupt() meanwhile stored its reason first, so the caller's next look finds
  // it.
  store_immediate_exit(*run_, 0);
  if (!status.ok()) return std::move(status.error());
  return {};
}

int Vcpu::interrupt_signal() {
  return SIGRTMIN;
}

Result<void> Vcpu::install_interrupt_signal() {
  struct sigaction action {};
  action.sa_handler = ignore_signal;
  if (::sigaction(interrupt_signal(), &action, nullptr) < 0) {
    return Error::from_errno(errno, "Could not install the vCPU signal's handler");
  }
  return {};
}

void Vcpu::interrupt(pthread_t thread) {
  store_immediate_exit(*run_, 1);
  pthread_kill(thread, interrupt_signal());
}

void Vcpu::clear_interrupt() {
  store_immediate_exit(*run_, 0);
}

Result<kvm_regs> Vcpu::regs() const {
  return get<kvm_regs>(fd_.get(), KVM_GET_REGS, "KVM_GET_REGS");
}
Result<void> Vcpu::set_regs(const kvm_regs& regs) {
  return call_void(fd_.get(), KVM_SET_REGS, "KVM_SET_REGS", &regs);
}
Result<kvm_sregs> Vcpu::sregs() const {
  return get<kvm_sregs>(fd_.get(), KVM_GET_SREGS, "KVM_GET_SREGS");
}
Result<void> Vcpu::set_sregs(const kvm_sregs& sregs) {
  return call_void(fd_.get(), KVM_SET_SREGS, "KVM_SET_SREGS", &sregs);
}
Result<kvm_fpu> Vcpu::fpu() const {
  return get<kvm_fpu>(fd_.get(), KVM_GET_FPU, "KVM_GET_FPU");
}
Result<void> Vcpu::set_fpu(const kvm_fpu& fpu) {
  return call_void(fd_.get(), KVM_SET_FPU, "KVM_SET_FPU", &fpu);
}
Result<Vcpu::XsaveArea> Vcpu::xsave() const {
  return get<XsaveArea>(fd_.get(), kGetXsave, "KVM_GET_XSAVE");
}
Result<void> Vcpu::set_xsave(const XsaveArea& xsave) {
  return call_void(fd_.get(), kSetXsave, "KVM_SET_XSAVE", &xsave);
}
Result<kvm_xcrs> Vcpu::xcrs() const {
  return get<kvm_xcrs>(fd_.get(), KVM_GET_XCRS, "KVM_GET_XCRS");
}
Result<void> Vcpu::set_xcrs(const kvm_xcrs& xcrs) {
  return call_void(fd_.get(), KVM_SET_XCRS, "KVM_SET_XCRS", &xcrs);
}
Result<kvm_debugregs> Vcpu::debugregs() const {
  return get<kvm_debugregs>(fd_.get(), KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS");
}
Result<void> Vcpu::set_debugregs(const kvm_debugregs& regs) {
  return call_void(fd_.get(), KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS", &regs);
}
Result<kvm_lapic_state> Vcpu::lapic() const {
  return get<kvm_lapic_state>(fd_.get(), KVM_GET_LAPIC, "KVM_GET_LAPIC");
}
Result<void> Vcpu::set_lapic(const kvm_lapic_state& state) {
  return call_void(fd_.get(), KVM_SET_LAPIC, "KVM_SET_LAPIC", &state);
}
Result<uint32_t> Vcpu::mp_state() const {
  TRY(kvm_mp_state state, get<kvm_mp_state>(fd_.get(), KVM_GET_MP_STATE, "KVM_GET_MP_STATE"));
  return state.mp_state;
}
Result<void> Vcpu::set_mp_state(uint32_t value) {
  kvm_mp_state state{value};
  return call_void(fd_.get(), KVM_SET_MP_STATE, "KVM_SET_MP_STATE", &state);
}
Result<kvm_vcpu_events> Vcpu::events() const {
  return get<kvm_vcpu_events>(fd_.get(), KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS");
}
Result<void> Vcpu::set_events(const kvm_vcpu_events& events) {
  return call_void(fd_.get(), KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS", &events);
}

Result<void> Vcpu::set_cpuid(std::span<const kvm_cpuid_entry2> entries) {
  Variable<CpuidHeader, kvm_cpuid_entry2> list(entries);
  list.header().count = static_cast<uint32_t>(entries.size());
  return call_void(fd_.get(), kSetCpuid, "KVM_SET_CPUID2", &list.header());
}

Result<uint64_t> Vcpu::msr(uint32_t index) const {
  Variable<MsrsHeader, kvm_msr_entry> list(1);
  list.header().count = 1;
  list.entries()[0].index = index;
  TRY(int count, call(fd_.get(), kGetMsrs, "KVM_GET_MSRS", &list.header()));
  if (count != 1) return make_error(ErrorKind::kNotFound, "KVM has no MSR {:#x}", index);
  return uint64_t{list.entries()[0].data};
}

Result<void> Vcpu::set_msrs(std::span<const kvm_msr_entry> entries) {
  Variable<MsrsHeader, kvm_msr_entry> list(entries);
  list.header().count = static_cast<uint32_t>(entries.size());
  TRY(int count, call(fd_.get(), kSetMsrs, "KVM_SET_MSRS", &list.header()));
  if (static_cast<size_t>(count) == entries.size()) return {};
  const kvm_msr_entry& refused = entries[static_cast<size_t>(count)];
  return make_error(ErrorKind::kUnsupported, "KVM refuses {:#x} in MSR {:#x}",
                    static_cast<uint64_t>(refused.data), static_cast<uint32_t>(refused.index));
}

Result<void> Vcpu::set_guest_debug(const kvm_guest_debug& debug) {
  return call_void(fd_.get(), KVM_SET_GUEST_DEBUG, "KVM_SET_GUEST_DEBUG", &debug);
}

Result<uint64_t> Vcpu::translate(uint64_t linear) const {
  kvm_translation translation{};
  translation.linear_address = linear;
  TRY_VOID(call(fd_.get(), KVM_TRANSLATE, "KVM_TRANSLATE", &translation));
  if (!translation.valid) {
    return make_error(ErrorKind::kNotFound, "linear address {:#x} is not mapped", linear);
  }
  return uint64_t{translation.physical_address};
}

Result<void> Vcpu::inject_nmi() {
  return call_void(fd_.get(), KVM_NMI, "KVM_NMI", 0);
}

}  // namespace calf::kvm
