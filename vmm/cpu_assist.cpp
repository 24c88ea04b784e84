#include "vmm/cpu_assist.h"

#include <unistd.h>

#include "vmm/insn_completer/completer.h"
#include "vmm/vcpu_report.h"

namespace calf::vmm {

bool CpuAssist::host_is_pvm() {
  auto loaded = [](const char* module) { return ::access(module, F_OK) == 0; };
  return loaded("/sys/module/kvm_pvm") && !loaded("/sys/module/kvm_intel") &&
         !loaded("/sys/module/kvm_amd");
}

Result<void> CpuAssist::prepare(kvm::Vm& vm) {
  if (!host_is_pvm()) return {};
  return vm.exit_on_msr_writes(insn::kMsrStar, insn::kMsrSyscallMask);
}

CpuAssist::CpuAssist(std::vector<kvm::Vcpu>& vcpus, const devices::GuestMemory& memory)
    : memory_(memory), pvm_(host_is_pvm()) {
  for (kvm::Vcpu& vcpu : vcpus)
    per_vcpu_.push_back(std::make_unique<PerVcpu>(vcpu, memory, pvm_));
}

Result<ExitHandler::Verdict> CpuAssist::handle(kvm::Vcpu& vcpu, unsigned index) {
  switch (vcpu.run_page().exit_reason) {
    case KVM_EXIT_INTERNAL_ERROR:
      return handle_emulation(vcpu, index);
    case KVM_EXIT_DEBUG:
      return handle_debug(vcpu, index);
    case KVM_EXIT_X86_WRMSR:
      return handle_wrmsr(vcpu, index);
    default:
      return Verdict::kNotMine;
  }
}

Result<ExitHandler::Verdict> CpuAssist::handle_emulation(kvm::Vcpu& vcpu, unsigned index) {
  if (vcpu.run_page().internal.suberror != KVM_INTERNAL_ERROR_EMULATION) return Verdict::kNotMine;
  PerVcpu& own = *per_vcpu_[index];
  TRY(insn::Outcome outcome, insn::complete(own.cpu, memory_));
  if (auto* failure = std::get_if<insn::CannotComplete>(&outcome)) {
    return make_error(ErrorKind::kUnsupported, "{}\n  nor could calf: {}",
                      describe_exit(vcpu, index, memory_), failure->why);
  }
  // Not each time: reading the registers again costs as much as a cheap completion.
  constexpr uint64_t kRefreshInterval = 16;
  if (pvm_ && ++own.completions % kRefreshInterval == 0) TRY_VOID(own.bridge.refresh());
  return Verdict::kResume;
}

Result<ExitHandler::Verdict> CpuAssist::handle_debug(kvm::Vcpu& vcpu, unsigned index) {
  PerVcpu& own = *per_vcpu_[index];
  TRY(bool done, own.bridge.on_debug_exit(vcpu.run_page().debug.arch.pc));
  if (done) return Verdict::kResume;
  // A breakpoint or step of the guest's own.
  TRY(kvm_debugregs debug, vcpu.debugregs());
  debug.dr6 = vcpu.run_page().debug.arch.dr6;
  TRY_VOID(vcpu.set_debugregs(debug));
  TRY_VOID(own.cpu.inject({insn::kVectorDebug, std::nullopt, std::nullopt}));
  return Verdict::kResume;
}

Result<ExitHandler::Verdict> CpuAssist::handle_wrmsr(kvm::Vcpu& vcpu, unsigned index) {
  kvm_run& page = vcpu.run_page();
  TRY(bool taken, per_vcpu_[index]->bridge.on_msr_write(page.msr.index, page.msr.data));
  page.msr.error = taken ? 0 : 1;
  return Verdict::kResume;
}

Result<void> CpuAssist::reset() {
  for (auto& own : per_vcpu_)
    TRY_VOID(own->bridge.reset());
  return {};
}

}  // namespace calf::vmm
