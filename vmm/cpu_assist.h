// CpuAssist: finishes for KVM what it leaves unfinished on hosts without hardware virtualisation.
//
//     KVM_EXIT_INTERNAL_ERROR (emulation) -> the instruction completer
//     KVM_EXIT_DEBUG                      -> the SYSCALL bridge, or back to the guest
//     KVM_EXIT_X86_WRMSR                  -> the SYSCALL bridge (STAR, LSTAR, FMASK)
//
// With VT-x or SVM it does nothing at all unless KVM reports an instruction that it cannot emulate.
#pragma once

#include <memory>
#include <vector>

#include "devices/core/guest_memory.h"
#include "vmm/insn_completer/syscall_bridge.h"
#include "vmm/kvm/vm.h"
#include "vmm/kvm_cpu_access.h"
#include "vmm/vcpu_loop.h"

namespace calf::vmm {

class CpuAssist final : public ExitHandler {
 public:
  // Tells KVM which MSRs matter here. Right after the machine was made (Vm::exit_on_msr_writes()).
  static Result<void> prepare(kvm::Vm& vm);
  // Before the vCPUs run. All outlive this object; `vcpus` does not move.
  CpuAssist(std::vector<kvm::Vcpu>& vcpus, const devices::GuestMemory& memory);
  // Whether this host's KVM is kvm_pvm.
  static bool host_is_pvm();

  Result<Verdict> handle(kvm::Vcpu& vcpu, unsigned index) override;
  // After the vCPUs were reset, while they stand still.
  Result<void> reset();

 private:
  struct PerVcpu {
    PerVcpu(kvm::Vcpu& vcpu, const devices::GuestMemory& memory, bool pvm)
        : cpu(vcpu, pvm), bridge(cpu, cpu, memory) {}
    KvmCpuAccess cpu;
    insn::SyscallBridge bridge;
    uint64_t completions = 0;
  };

  Result<Verdict> handle_emulation(kvm::Vcpu& vcpu, unsigned index);
  Result<Verdict> handle_debug(kvm::Vcpu& vcpu, unsigned index);
  Result<Verdict> handle_wrmsr(kvm::Vcpu& vcpu, unsigned index);

  const devices::GuestMemory& memory_;
  const bool pvm_;  // SYSCALL is bridged
  std::vector<std::unique_ptr<PerVcpu>> per_vcpu_;
};

}  // namespace calf::vmm
