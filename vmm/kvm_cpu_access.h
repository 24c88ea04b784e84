// The instruction completer's view of a processor, on a KVM vCPU. Belongs to the vCPU's thread.
#pragma once

#include "vmm/insn_completer/cpu_access.h"
#include "vmm/insn_completer/syscall_bridge.h"
#include "vmm/kvm/vcpu.h"

namespace calf::vmm {

class KvmCpuAccess final : public insn::CpuAccess, public insn::DebugControl {
 public:
  // The vCPU outlives this object. `pvm`: the host's KVM is kvm_pvm.
  KvmCpuAccess(kvm::Vcpu& vcpu, bool pvm) : vcpu_(vcpu), pvm_(pvm) {}

  Result<insn::Registers> registers() override;
  Result<void> set_registers(const insn::Registers& registers) override;
  Result<insn::SystemRegisters> system_registers() override;
  Result<void> set_system_registers(const insn::SystemRegisters& registers) override;
  Result<uint64_t> msr(uint32_t index) override { return vcpu_.msr(index); }
  Result<void> set_msr(uint32_t index, uint64_t value) override;
  Result<insn::XsaveState> xsave() override;
  Result<void> set_xsave(const insn::XsaveState& state) override;
  Result<uint64_t> xcr0() override;
  Result<void> set_xcr0(uint64_t value) override;
  insn::CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf) override;
  bool frames_ignore_ss_base() const override { return pvm_; }
  Result<void> inject(const insn::Exception& exception) override;
  Result<void> inject_software_interrupt(uint8_t vector) override;

  Result<void> clear() override;
  Result<void> set_breakpoint(uint64_t linear) override;
  Result<void> single_step() override;

 private:
  kvm::Vcpu& vcpu_;
  const bool pvm_;
};

}  // namespace calf::vmm
