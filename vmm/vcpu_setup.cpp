#include "vmm/vcpu_setup.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace calf::vmm {
namespace {

struct MsrValue {
  uint32_t index;
  uint64_t value;
};

constexpr uint32_t kMiscEnable = 0x1A0;
constexpr uint32_t kMtrrDefaultType = 0x2FF;

// What firmware sets, and KVM does not: fast strings on; caches on. All memory is write-back, the
// first MiB too: its own ranges stay off, for they say uncacheable.
constexpr uint64_t kMtrrEnable = 1u << 11;
constexpr uint64_t kWriteBack = 6;
constexpr std::array kFirmwareMsrs = {
    MsrValue{kMiscEnable, 1},
    MsrValue{kMtrrDefaultType, kMtrrEnable | kWriteBack},
};

constexpr uint32_t kFeatureControl = 0x3A;

// MSRs that a guest changes and KVM keeps across our reset. Those that this KVM has not are passed
// over.
constexpr std::array kResetMsrs = {
    MsrValue{0x4B564D00, 0},              // KVM: wall clock
    MsrValue{0x4B564D01, 0},              // KVM: system time
    MsrValue{0x4B564D02, 0},              // KVM: async page faults
    MsrValue{0x4B564D03, 0},              // KVM: steal time
    MsrValue{0x4B564D04, 0},              // KVM: paravirtual EOI
    MsrValue{0x4B564D05, 1},              // KVM: poll control
    MsrValue{0x11, 0},                    // KVM: wall clock, old
    MsrValue{0x12, 0},                    // KVM: system time, old
    MsrValue{0x10, 0},                    // TSC
    MsrValue{0x3B, 0},                    // TSC_ADJUST
    MsrValue{0x48, 0},                    // SPEC_CTRL
    MsrValue{0x174, 0},                   // SYSENTER_CS
    MsrValue{0x175, 0},                   // SYSENTER_ESP
    MsrValue{0x176, 0},                   // SYSENTER_EIP
    MsrValue{0x277, 0x0007040600070406},  // PAT
    MsrValue{0x6E0, 0},                   // TSC_DEADLINE
    MsrValue{0xDA0, 0},                   // XSS
    MsrValue{0xC0000081, 0},              // STAR
    MsrValue{0xC0000082, 0},              // LSTAR
    MsrValue{0xC0000083, 0},              // CSTAR
    MsrValue{0xC0000084, 0},              // FMASK
    MsrValue{0xC0000102, 0},              // KERNEL_GS_BASE
    MsrValue{0xC0000103, 0},              // TSC_AUX
};

constexpr uint64_t kFlagsAlwaysOne = 2;
constexpr uint32_t kMxcsrReset = 0x1F80;
constexpr uint16_t kFcwReset = 0x037F;  // after FNINIT, what every boot protocol means

// LAPIC registers, by offset (Intel SDM volume 3A, 11.4).
constexpr size_t kLapicId = 0x20;
constexpr size_t kLapicSpurious = 0xF0;
constexpr size_t kLapicLint0 = 0x350;
constexpr size_t kLapicLint1 = 0x360;
constexpr uint32_t kLapicEnable = 0x100;
constexpr uint32_t kDeliverExtInt = 0x700;
constexpr uint32_t kDeliverNmi = 0x400;

void set_lapic_register(kvm_lapic_state& lapic, size_t offset, uint32_t value) {
  std::memcpy(lapic.regs + offset, &value, sizeof value);
}

// "Virtual wire": the PIC's interrupts reach the first processor while nobody has set up the LAPIC.
kvm_lapic_state virtual_wire(kvm_lapic_state lapic) {
  set_lapic_register(lapic, kLapicSpurious, kLapicEnable | 0xFF);
  set_lapic_register(lapic, kLapicLint0, kDeliverExtInt);
  set_lapic_register(lapic, kLapicLint1, kDeliverNmi);
  return lapic;
}

Result<void> set_firmware_msrs(kvm::Vcpu& vcpu) {
  std::array<kvm_msr_entry, kFirmwareMsrs.size()> entries{};
  std::ranges::transform(kFirmwareMsrs, entries.begin(), [](MsrValue msr) {
    kvm_msr_entry entry{};
    entry.index = msr.index;
    entry.data = msr.value;
    return entry;
  });
  return vcpu.set_msrs(entries);
}

// For MSRs that not every processor has.
Result<void> set_msr_if_there(kvm::Vcpu& vcpu, MsrValue msr) {
  kvm_msr_entry entry{};
  entry.index = msr.index;
  entry.data = msr.value;
  Result<void> set = vcpu.set_msrs({&entry, 1});
  if (!set.ok() && set.error().kind() != ErrorKind::kUnsupported) return set;
  return {};
}

constexpr uint64_t kCr0Protection = 1u << 0;
constexpr uint64_t kCr0ExtensionType = 1u << 4;
constexpr uint64_t kCr0Paging = 1u << 31;
constexpr uint64_t kCr4PhysicalAddressExtension = 1u << 5;
constexpr uint64_t kEferLongMode = 1u << 8 | 1u << 10;  // enabled and active

kvm_segment flat_segment(uint16_t selector, bool code, bool long_mode) {
  kvm_segment segment = real_mode_segment(selector, code);
  segment.base = 0;
  segment.limit = 0xFFFFFFFF;
  segment.g = 1;
  segment.l = code && long_mode;
  segment.db = !segment.l;
  return segment;
}

kvm_segment busy_task_segment() {
  kvm_segment segment{};
  segment.limit = 0x67;
  segment.type = 0xB;
  segment.present = 1;
  return segment;
}

}  // namespace

Result<VcpuTemplate> VcpuTemplate::capture(const kvm::Vcpu& vcpu) {
  VcpuTemplate state{};
  TRY(state.sregs, vcpu.sregs());
  TRY(state.lapic, vcpu.lapic());
  TRY(state.xcrs, vcpu.xcrs());
  return state;
}

Result<void> finish_power_on(kvm::Vcpu& vcpu) {
  TRY_VOID(set_firmware_msrs(vcpu));
  TRY(kvm_lapic_state lapic, vcpu.lapic());
  return vcpu.set_lapic(virtual_wire(lapic));
}

Result<void> reset_vcpu(kvm::Vcpu& vcpu, const VcpuTemplate& initial, uint32_t apic_id,
                        bool is_first) {
  constexpr uint64_t kApicBaseIsBootstrap = 1u << 8;
  // A guest that runs guests of its own by VT-x: in VMX operation CR4.VMXE cannot be cleared, and
  // KVM refuses the registers below. Zero here takes the vCPU out of it. SVM ends with EFER.SVME.
  TRY_VOID(set_msr_if_there(vcpu, {kFeatureControl, 0}));
  TRY_VOID(vcpu.set_guest_debug(kvm_guest_debug{}));

  kvm_vcpu_events events{};
  events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  TRY_VOID(vcpu.set_events(events));

  kvm_sregs sregs = initial.sregs;
  if (!is_first) sregs.apic_base &= ~kApicBaseIsBootstrap;
  TRY_VOID(vcpu.set_sregs(sregs));
  if (initial.xcrs.nr_xcrs != 0) TRY_VOID(vcpu.set_xcrs(initial.xcrs));
  kvm_lapic_state lapic = initial.lapic;
  set_lapic_register(lapic, kLapicId, apic_id << 24);
  TRY_VOID(vcpu.set_lapic(lapic));

  kvm_regs regs{};
  regs.rflags = kFlagsAlwaysOne;
  regs.rip = 0xFFF0;
  TRY_VOID(vcpu.set_regs(regs));
  kvm_fpu fpu{};
  fpu.fcw = kFcwReset;
  fpu.mxcsr = kMxcsrReset;
  TRY_VOID(vcpu.set_fpu(fpu));
  kvm_debugregs debug{};
  debug.dr6 = 0xFFFF0FF0;
  debug.dr7 = 0x400;
  TRY_VOID(vcpu.set_debugregs(debug));
  for (MsrValue msr : kResetMsrs)
    TRY_VOID(set_msr_if_there(vcpu, msr));
  TRY_VOID(vcpu.set_mp_state(is_first ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED));
  return finish_power_on(vcpu);
}

kvm_segment real_mode_segment(uint16_t selector, bool code) {
  kvm_segment segment{};
  segment.selector = selector;
  segment.base = uint64_t{selector} << 4;
  segment.limit = 0xFFFF;
  segment.type = code ? 0xB : 0x3;  // accessed; code: execute and read, data: read and write
  segment.s = 1;
  segment.present = 1;
  return segment;
}

Result<void> enter_real_mode(kvm::Vcpu& vcpu, const VcpuTemplate& initial,
                             const firmware::RealModeRegs& r) {
  kvm_sregs sregs = initial.sregs;
  sregs.cs = real_mode_segment(r.cs, true);
  sregs.ds = real_mode_segment(r.ds, false);
  sregs.es = real_mode_segment(r.es, false);
  sregs.fs = real_mode_segment(r.fs, false);
  sregs.gs = real_mode_segment(r.gs, false);
  sregs.ss = real_mode_segment(r.ss, false);
  sregs.idt.base = 0;
  sregs.idt.limit = 0x3FF;
  sregs.cr0 = kCr0ExtensionType;  // caches on
  TRY_VOID(vcpu.set_sregs(sregs));
  kvm_regs regs{};
  regs.rax = r.ax.all();
  regs.rbx = r.bx.all();
  regs.rcx = r.cx.all();
  regs.rdx = r.dx.all();
  regs.rsi = r.si.all();
  regs.rdi = r.di.all();
  regs.rbp = r.bp.all();
  regs.rsp = r.sp.all();
  regs.rip = r.ip;
  regs.rflags = r.flags | kFlagsAlwaysOne;
  return vcpu.set_regs(regs);
}

Result<void> enter(kvm::Vcpu& vcpu, const VcpuTemplate& initial,
                   const firmware::EntryState& state) {
  using firmware::CpuMode;
  kvm_sregs sregs = initial.sregs;
  bool real = state.mode == CpuMode::kReal16;
  bool long_mode = state.mode == CpuMode::kLong64;
  auto segment = [&](uint16_t selector, bool code) {
    return real ? real_mode_segment(selector, code) : flat_segment(selector, code, long_mode);
  };
  sregs.cs = segment(state.code_segment, true);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(state.data_segment, false);
  sregs.cr0 = kCr0ExtensionType;
  if (!real) {
    sregs.tr = busy_task_segment();
    sregs.gdt.base = devices::raw(state.gdt);
    sregs.gdt.limit = state.gdt_limit;
    sregs.cr0 |= kCr0Protection;
  }
  if (long_mode) {
    sregs.cr0 |= kCr0Paging;
    sregs.cr3 = devices::raw(state.page_tables);
    sregs.cr4 = kCr4PhysicalAddressExtension;
    sregs.efer = kEferLongMode;
  }
  TRY_VOID(vcpu.set_sregs(sregs));
  kvm_regs regs{};
  regs.rflags = kFlagsAlwaysOne;
  regs.rip = state.rip;
  regs.rsp = state.rsp;
  regs.rax = state.rax;
  regs.rbx = state.rbx;
  regs.rdx = state.rdx;
  regs.rsi = state.rsi;
  return vcpu.set_regs(regs);
}

}  // namespace calf::vmm
