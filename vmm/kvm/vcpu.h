// One virtual processor (api.rst, "vcpu ioctls").
//
// run() belongs to one thread, as do the register ioctls while that thread may be inside run().
// interrupt() may be called from any thread and ends a run(), also one that has not begun yet:
//
//     other thread:   store the reason -> interrupt()
//     vCPU thread:    clear_interrupt() -> look for reasons -> run()
//
// A reason that is stored after the look sets immediate_exit after the clear, so run() returns at
// once; one that is stored while run() runs ends it by the signal.
#pragma once

#include <linux/kvm.h>
#include <pthread.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "block/base/fd.h"
#include "block/base/result.h"

namespace calf::kvm {

// Why run() came back. KVM's own reasons are in run_page().exit_reason.
enum class RunStatus : uint8_t { kExit, kInterrupted };

class Vcpu {
 public:
  static Result<Vcpu> make(Fd fd, size_t run_size);
  Vcpu(Vcpu&& other) noexcept;
  Vcpu& operator=(Vcpu&&) = delete;
  ~Vcpu();

  // The page that KVM shares with us: exit reason and its data.
  kvm_run& run_page() { return *run_; }
  // Data of a KVM_EXIT_IO; empty if the page holds nonsense.
  std::span<uint8_t> io_data();

  Result<RunStatus> run();
  // Finishes the instruction of the last exit (its result goes to the registers) without running
  // another one.
  Result<void> complete_exit();

  // Once per process, before interrupt(): the signal gets a handler that does nothing.
  static Result<void> install_interrupt_signal();
  static int interrupt_signal();
  void interrupt(pthread_t thread);
  void clear_interrupt();

  Result<kvm_regs> regs() const;
  Result<void> set_regs(const kvm_regs& regs);
  Result<kvm_sregs> sregs() const;
  Result<void> set_sregs(const kvm_sregs& sregs);
  Result<kvm_fpu> fpu() const;
  Result<void> set_fpu(const kvm_fpu& fpu);
  // The first 4 KiB of XSAVE state (struct kvm_xsave), which is all unless the guest may use AMX.
  using XsaveArea = std::array<uint32_t, 1024>;
  Result<XsaveArea> xsave() const;
  Result<void> set_xsave(const XsaveArea& xsave);
  Result<kvm_xcrs> xcrs() const;
  Result<void> set_xcrs(const kvm_xcrs& xcrs);
  Result<kvm_debugregs> debugregs() const;
  Result<void> set_debugregs(const kvm_debugregs& regs);
  Result<kvm_lapic_state> lapic() const;
  Result<void> set_lapic(const kvm_lapic_state& state);
  Result<uint32_t> mp_state() const;  // KVM_MP_STATE_*
  Result<void> set_mp_state(uint32_t state);
  Result<kvm_vcpu_events> events() const;
  Result<void> set_events(const kvm_vcpu_events& events);

  Result<void> set_cpuid(std::span<const kvm_cpuid_entry2> entries);
  // Reads the value of one MSR; kNotFound if KVM has no such MSR.
  Result<uint64_t> msr(uint32_t index) const;
  // Sets MSRs in order; the error names the first one that KVM refuses.
  Result<void> set_msrs(std::span<const kvm_msr_entry> entries);

  Result<void> set_guest_debug(const kvm_guest_debug& debug);
  // The physical address behind a linear one, by the guest's page tables; kNotFound if there is
  // none.
  Result<uint64_t> translate(uint64_t linear) const;
  // Delivers an NMI.
  Result<void> inject_nmi();

 private:
  Vcpu(Fd fd, kvm_run* run, size_t run_size) : fd_(std::move(fd)), run_(run), run_size_(run_size) {}
  Fd fd_;
  kvm_run* run_;
  size_t run_size_;
};

}  // namespace calf::kvm
