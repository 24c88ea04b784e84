#include "vmm/kvm_cpu_access.h"

#include <cpuid.h>

#include <cstring>

namespace calf::vmm {

namespace {

using insn::Segment;
using insn::SegmentName;

// KVM's names for the registers, in the order of their encoding.
constexpr std::array<__u64 kvm_regs::*, 16> kGeneral = {
    &kvm_regs::rax, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rbx, &kvm_regs::rsp, &kvm_regs::rbp,
    &kvm_regs::rsi, &kvm_regs::rdi, &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
    &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};

constexpr std::array<kvm_segment kvm_sregs::*, 6> kSegments = {
    &kvm_sregs::es, &kvm_sregs::cs, &kvm_sregs::ss, &kvm_sregs::ds, &kvm_sregs::fs, &kvm_sregs::gs};

Segment from_kvm(const kvm_segment& from) {
  Segment to;
  to.base = from.base;
  to.limit = from.limit;
  to.selector = from.selector;
  to.type = from.type;
  to.dpl = from.dpl;
  to.present = from.present != 0;
  to.code_or_data = from.s != 0;
  to.long_mode = from.l != 0;
  to.big = from.db != 0;
  to.granular = from.g != 0;
  to.available = from.avl != 0;
  to.unusable = from.unusable != 0;
  return to;
}

kvm_segment to_kvm(const Segment& from) {
  kvm_segment to{};
  to.base = from.base;
  to.limit = from.limit;
  to.selector = from.selector;
  to.type = from.type;
  to.dpl = from.dpl;
  to.present = from.present;
  to.s = from.code_or_data;
  to.l = from.long_mode;
  to.db = from.big;
  to.g = from.granular;
  to.avl = from.available;
  to.unusable = from.unusable;
  return to;
}

}  // namespace

Result<insn::Registers> KvmCpuAccess::registers() {
  TRY(kvm_regs from, vcpu_.regs());
  insn::Registers to;
  for (size_t i = 0; i < kGeneral.size(); ++i)
    to.general[i] = from.*kGeneral[i];
  to.rip = from.rip;
  to.rflags = from.rflags;
  return to;
}

Result<void> KvmCpuAccess::set_registers(const insn::Registers& from) {
  kvm_regs to{};
  for (size_t i = 0; i < kGeneral.size(); ++i)
    to.*kGeneral[i] = from.general[i];
  to.rip = from.rip;
  to.rflags = from.rflags;
  return vcpu_.set_regs(to);
}

Result<insn::SystemRegisters> KvmCpuAccess::system_registers() {
  TRY(kvm_sregs from, vcpu_.sregs());
  insn::SystemRegisters to;
  for (size_t i = 0; i < kSegments.size(); ++i)
    to.segments[i] = from_kvm(from.*kSegments[i]);
  to.ldtr = from_kvm(from.ldt);
  to.tr = from_kvm(from.tr);
  to.gdt = {from.gdt.base, from.gdt.limit};
  to.idt = {from.idt.base, from.idt.limit};
  to.cr0 = from.cr0;
  to.cr2 = from.cr2;
  to.cr3 = from.cr3;
  to.cr4 = from.cr4;
  to.efer = from.efer;
  return to;
}

// What insn::SystemRegisters does not hold stays as it is.
Result<void> KvmCpuAccess::set_system_registers(const insn::SystemRegisters& from) {
  TRY(kvm_sregs to, vcpu_.sregs());
  for (size_t i = 0; i < kSegments.size(); ++i)
    to.*kSegments[i] = to_kvm(from.segments[i]);
  to.ldt = to_kvm(from.ldtr);
  to.tr = to_kvm(from.tr);
  to.gdt.base = from.gdt.base;
  to.gdt.limit = from.gdt.limit;
  to.idt.base = from.idt.base;
  to.idt.limit = from.idt.limit;
  to.cr0 = from.cr0;
  to.cr2 = from.cr2;
  to.cr3 = from.cr3;
  to.cr4 = from.cr4;
  to.efer = from.efer;
  return vcpu_.set_sregs(to);
}

Result<void> KvmCpuAccess::set_msr(uint32_t index, uint64_t value) {
  kvm_msr_entry entry{};
  entry.index = index;
  entry.data = value;
  return vcpu_.set_msrs({&entry, 1});
}

Result<insn::XsaveState> KvmCpuAccess::xsave() {
  TRY(kvm::Vcpu::XsaveArea area, vcpu_.xsave());
  insn::XsaveState state;
  static_assert(sizeof area == sizeof state.bytes);
  std::memcpy(state.bytes.data(), area.data(), sizeof area);
  return state;
}

Result<void> KvmCpuAccess::set_xsave(const insn::XsaveState& state) {
  kvm::Vcpu::XsaveArea area;
  std::memcpy(area.data(), state.bytes.data(), sizeof area);
  return vcpu_.set_xsave(area);
}

Result<uint64_t> KvmCpuAccess::xcr0() {
  TRY(kvm_xcrs xcrs, vcpu_.xcrs());
  for (uint32_t i = 0; i < std::min<uint32_t>(xcrs.nr_xcrs, KVM_MAX_XCRS); ++i) {
    if (xcrs.xcrs[i].xcr == 0) return uint64_t{xcrs.xcrs[i].value};
  }
  return uint64_t{1};
}

Result<void> KvmCpuAccess::set_xcr0(uint64_t value) {
  kvm_xcrs xcrs{};
  xcrs.nr_xcrs = 1;
  xcrs.xcrs[0].value = value;
  return vcpu_.set_xcrs(xcrs);
}

// Where instructions need completing, the guest sees the host's leaves, and the layout of the XSAVE
// area, which is what is asked for, is the processor's everywhere.
insn::CpuidLeaf KvmCpuAccess::cpuid(uint32_t leaf, uint32_t subleaf) {
  insn::CpuidLeaf result;
  __cpuid_count(leaf, subleaf, result.eax, result.ebx, result.ecx, result.edx);
  return result;
}

Result<void> KvmCpuAccess::inject(const insn::Exception& exception) {
  if (exception.cr2) {
    TRY(kvm_sregs sregs, vcpu_.sregs());
    sregs.cr2 = *exception.cr2;
    TRY_VOID(vcpu_.set_sregs(sregs));
  }
  TRY(kvm_vcpu_events events, vcpu_.events());
  events.exception.injected = 1;
  events.exception.nr = exception.vector;
  events.exception.has_error_code = exception.error_code.has_value();
  events.exception.error_code = exception.error_code.value_or(0);
  return vcpu_.set_events(events);
}

Result<void> KvmCpuAccess::inject_software_interrupt(uint8_t vector) {
  TRY(kvm_vcpu_events events, vcpu_.events());
  events.interrupt.injected = 1;
  events.interrupt.nr = vector;
  events.interrupt.soft = 1;
  return vcpu_.set_events(events);
}

Result<void> KvmCpuAccess::clear() {
  return vcpu_.set_guest_debug(kvm_guest_debug{});
}

Result<void> KvmCpuAccess::set_breakpoint(uint64_t linear) {
  constexpr uint64_t kGlobalEnable0 = 1 << 1;  // of DR7: execution, one byte
  constexpr uint64_t kAlwaysOne = 1 << 10;
  kvm_guest_debug debug{};
  debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
  debug.arch.debugreg[0] = linear;
  debug.arch.debugreg[7] = kGlobalEnable0 | kAlwaysOne;
  return vcpu_.set_guest_debug(debug);
}

Result<void> KvmCpuAccess::single_step() {
  kvm_guest_debug debug{};
  debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
  return vcpu_.set_guest_debug(debug);
}

}  // namespace calf::vmm
