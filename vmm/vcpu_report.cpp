#include "vmm/vcpu_report.h"

#include <fmt/format.h>

#include <array>
#include <iterator>

namespace calf::vmm {
namespace {

std::string reason(const kvm_run& run) {
  switch (run.exit_reason) {
    case KVM_EXIT_INTERNAL_ERROR:
      switch (run.internal.suberror) {
        case KVM_INTERNAL_ERROR_EMULATION:
          return "KVM could not emulate an instruction";
        case KVM_INTERNAL_ERROR_SIMUL_EX:
          return "KVM met simultaneous exceptions";
        case KVM_INTERNAL_ERROR_DELIVERY_EV:
          return "KVM could not deliver an event";
        default:
          return fmt::format("KVM internal error {}", run.internal.suberror);
      }
    case KVM_EXIT_FAIL_ENTRY:
      return fmt::format("the processor refused to enter the guest, reason {:#x}",
                         static_cast<uint64_t>(run.fail_entry.hardware_entry_failure_reason));
    case KVM_EXIT_UNKNOWN:
      return fmt::format("KVM met the unknown hardware exit {:#x}",
                         static_cast<uint64_t>(run.hw.hardware_exit_reason));
    case KVM_EXIT_SHUTDOWN:
      return "triple fault";
    default:
      return fmt::format("KVM exit {} has no meaning for calf", uint32_t{run.exit_reason});
  }
}

// Byte by byte: the instruction may cross into a page that is not there.
std::string code_bytes(kvm::Vcpu& vcpu, uint64_t linear, const devices::GuestMemory& memory) {
  std::string text;
  for (uint64_t i = 0; i < 16; ++i) {
    Result<uint64_t> physical = vcpu.translate(linear + i);
    std::optional<uint8_t> byte;
    if (physical.ok()) byte = memory.read_object<uint8_t>(devices::Gpa{*physical});
    if (!byte) {
      text += " ??";
      break;
    }
    fmt::format_to(std::back_inserter(text), " {:02x}", *byte);
  }
  return text;
}

std::string segment(const char* name, const kvm_segment& s) {
  return fmt::format("{} {:04x} base {:016x} limit {:08x} type {:x} dpl {} {}{}{}", name,
                     uint16_t{s.selector}, uint64_t{s.base}, uint32_t{s.limit}, uint8_t{s.type},
                     uint8_t{s.dpl}, s.l ? "64-bit" : (s.db ? "32-bit" : "16-bit"),
                     s.present ? "" : " absent", s.unusable ? " unusable" : "");
}

std::string registers(kvm::Vcpu& vcpu, const devices::GuestMemory& memory) {
  std::string text;
  Result<kvm_regs> regs = vcpu.regs();
  Result<kvm_sregs> sregs = vcpu.sregs();
  if (!regs.ok() || !sregs.ok()) return "\n  (its registers cannot be read)";
  auto out = std::back_inserter(text);
  const kvm_regs& r = *regs;
  const kvm_sregs& s = *sregs;
  auto hex = [](uint64_t v) { return fmt::format("{:016x}", v); };
  fmt::format_to(out, "\n  rip {} flags {}  code{}", hex(r.rip), hex(r.rflags),
                 code_bytes(vcpu, s.cs.base + r.rip, memory));
  fmt::format_to(out, "\n  rax {} rbx {} rcx {} rdx {}", hex(r.rax), hex(r.rbx), hex(r.rcx),
                 hex(r.rdx));
  fmt::format_to(out, "\n  rsi {} rdi {} rbp {} rsp {}", hex(r.rsi), hex(r.rdi), hex(r.rbp),
                 hex(r.rsp));
  fmt::format_to(out, "\n  r8  {} r9  {} r10 {} r11 {}", hex(r.r8), hex(r.r9), hex(r.r10),
                 hex(r.r11));
  fmt::format_to(out, "\n  r12 {} r13 {} r14 {} r15 {}", hex(r.r12), hex(r.r13), hex(r.r14),
                 hex(r.r15));
  fmt::format_to(out, "\n  cr0 {} cr2 {} cr3 {} cr4 {} efer {}", hex(s.cr0), hex(s.cr2), hex(s.cr3),
                 hex(s.cr4), hex(s.efer));
  fmt::format_to(out, "\n  {}\n  {}", segment("cs", s.cs), segment("ss", s.ss));
  fmt::format_to(out, "\n  gdt {} idt {}", hex(s.gdt.base), hex(s.idt.base));
  return text;
}

}  // namespace

std::string describe_exit(kvm::Vcpu& vcpu, unsigned index, const devices::GuestMemory& memory) {
  return fmt::format("vCPU {}: {}", index, reason(vcpu.run_page())) + registers(vcpu, memory);
}

std::string describe_state(kvm::Vcpu& vcpu, unsigned index, const devices::GuestMemory& memory) {
  return fmt::format("vCPU {} was here:", index) + registers(vcpu, memory);
}

}  // namespace calf::vmm
