#include "vmm/bios_trap.h"

#include "vmm/vcpu_setup.h"

namespace calf::vmm {
namespace {

constexpr uint64_t kCr0Protection = 1;
constexpr uint64_t kFlagVirtual8086 = 1u << 17;

firmware::RealModeRegs real_mode_regs(const kvm_regs& r, const kvm_sregs& s) {
  auto low = [](uint64_t value) { return firmware::Register(static_cast<uint32_t>(value)); };
  firmware::RealModeRegs out;
  out.ax = low(r.rax);
  out.bx = low(r.rbx);
  out.cx = low(r.rcx);
  out.dx = low(r.rdx);
  out.si = low(r.rsi);
  out.di = low(r.rdi);
  out.bp = low(r.rbp);
  out.sp = low(r.rsp);
  out.ip = static_cast<uint16_t>(r.rip);
  out.cs = s.cs.selector;
  out.ds = s.ds.selector;
  out.es = s.es.selector;
  out.fs = s.fs.selector;
  out.gs = s.gs.selector;
  out.ss = s.ss.selector;
  out.flags = static_cast<uint32_t>(r.rflags);
  return out;
}

void store_general(kvm_regs& r, const firmware::RealModeRegs& regs) {
  r.rax = regs.ax.all();
  r.rbx = regs.bx.all();
  r.rcx = regs.cx.all();
  r.rdx = regs.dx.all();
  r.rsi = regs.si.all();
  r.rdi = regs.di.all();
  r.rbp = regs.bp.all();
  r.rsp = regs.sp.all();
  r.rip = regs.ip;
  r.rflags = regs.flags;
}

// True if anything changed. A segment that keeps its selector keeps its limit too ("unreal" mode).
bool store_segments(kvm_sregs& s, const firmware::RealModeRegs& regs) {
  bool changed = false;
  auto store = [&changed](kvm_segment& segment, uint16_t selector) {
    if (segment.selector == selector) return;
    segment.selector = selector;
    segment.base = uint64_t{selector} << 4;
    changed = true;
  };
  store(s.cs, regs.cs);
  store(s.ds, regs.ds);
  store(s.es, regs.es);
  store(s.fs, regs.fs);
  store(s.gs, regs.gs);
  store(s.ss, regs.ss);
  return changed;
}

}  // namespace

Result<ExitHandler::Verdict> BiosTrap::handle(kvm::Vcpu& vcpu, unsigned) {
  TRY_VOID(vcpu.complete_exit());
  TRY(kvm_regs general, vcpu.regs());
  TRY(kvm_sregs special, vcpu.sregs());
  bool real = (special.cr0 & kCr0Protection) == 0 || (general.rflags & kFlagVirtual8086) != 0;
  if (!real) return Verdict::kResume;  // no service call: a write that reaches no chip

  firmware::RealModeRegs regs = real_mode_regs(general, special);
  switch (bios_.handle(regs)) {
    case firmware::Outcome::kIgnored:
      return Verdict::kResume;
    case firmware::Outcome::kReset:
      run_state_.request_reset(devices::ResetReason::kUser);
      return Verdict::kResume;
    case firmware::Outcome::kNoBootDisk:
      run_state_.fail(bios_.text());
      return Verdict::kResume;
    case firmware::Outcome::kResume:
      break;
  }
  store_general(general, regs);
  if (store_segments(special, regs)) TRY_VOID(vcpu.set_sregs(special));
  // RIP always: KVM back ends differ in whether it stood behind the `out` already.
  TRY_VOID(vcpu.set_regs(general));
  return Verdict::kResume;
}

}  // namespace calf::vmm
