// Traps, access control, extended control registers, time and processor numbers.
#include <algorithm>

#include "vmm/insn_completer/handlers.h"

namespace calf::insn {

namespace {

constexpr uint64_t kGateDplShift = 45;
constexpr uint32_t kErrorIdt = 1 << 1;  // the error code names a gate

// What INT n may do at this privilege level (SDM vol. 3, 6.12.1.1).
Step<void> check_gate(Execution& e, uint8_t vector) {
  bool wide = (e.system.efer & kEferLma) != 0;
  uint64_t size = wide ? 16 : 8;
  uint32_t error_code = vector * 8u | kErrorIdt;
  if (vector * size + size - 1 > e.system.idt.limit) return general_protection(error_code);
  LinearMemory memory = e.supervisor_memory();
  uint64_t gate = 0;
  auto bytes = std::span(reinterpret_cast<uint8_t*>(&gate), sizeof gate);
  TRY_VOID(memory.read(e.system.idt.base + vector * size, bytes));
  if ((gate >> kGateDplShift & 3) < e.cpl()) return general_protection(error_code);
  return {};
}

Step<void> need_osxsave(Execution& e) {
  if ((e.system.cr4 & kCr4Osxsave) == 0) return invalid_opcode();
  return {};
}

Step<void> set_alignment_check(Execution& e, bool on) {
  if (e.cpl() != 0) return invalid_opcode();
  e.set_flag(kAlignmentCheck, on);
  return {};
}

Step<void> need_fsgsbase(Execution& e) {
  if (e.insn().mode != CodeMode::k64 || (e.system.cr4 & kCr4Fsgsbase) == 0) return invalid_opcode();
  return {};
}

Step<void> read_base(Execution& e, SegmentName name) {
  TRY_VOID(need_fsgsbase(e));
  unsigned size = e.insn().rex_w ? 8 : 4;
  e.set_reg(e.insn().rm, size, e.system.segment(name).base);
  return {};
}

Step<void> write_base(Execution& e, SegmentName name) {
  TRY_VOID(need_fsgsbase(e));
  uint64_t base = e.reg(e.insn().rm, e.insn().rex_w ? 8 : 4);
  // The check of a canonical address is that of an access there.
  e.system.segment(name).base = base;
  TRY(uint64_t checked, e.linear_address(name, 0, 1));
  e.system.segment(name).base = checked;
  e.system_changed = true;
  return {};
}

}  // namespace

Step<void> int3(Execution& e) {
  if (!e.protected_mode() || e.virtual_8086()) return NotKnown{"int3 in real or 8086 mode"};
  TRY_VOID(check_gate(e, kVectorBreakpoint));
  e.trap = Exception{kVectorBreakpoint, std::nullopt, std::nullopt};
  return {};
}

Step<void> int_n(Execution& e) {
  if (!e.protected_mode() || e.virtual_8086()) return NotKnown{"int n in real or 8086 mode"};
  auto vector = static_cast<uint8_t>(e.insn().immediate);
  TRY_VOID(check_gate(e, vector));
  e.software_interrupt = vector;
  return {};
}

// Pending x87 exceptions are not looked at: kernels, who alone come here, run with all of them
// masked.
Step<void> fwait(Execution& e) {
  constexpr uint64_t kMonitorAndTaskSwitched = 1 << 1 | kCr0Ts;
  if ((e.system.cr0 & kMonitorAndTaskSwitched) == kMonitorAndTaskSwitched) {
    return device_not_available();
  }
  return {};
}

Step<void> undefined(Execution&) {
  return invalid_opcode();
}

Step<void> no_operation(Execution&) {
  return {};
}

// CLWB, CLFLUSHOPT, CLFLUSH: caches are coherent with the host, only the address is checked.
Step<void> cache_line(Execution& e) {
  TRY(uint64_t linear, e.operand_address(1));
  TRY_VOID(e.read_memory(linear, 1));
  return {};
}

Step<void> clac(Execution& e) {
  return set_alignment_check(e, false);
}

Step<void> stac(Execution& e) {
  return set_alignment_check(e, true);
}

Step<void> xgetbv(Execution& e) {
  TRY_VOID(need_osxsave(e));
  if (e.reg(kRcx, 4) > 1) return general_protection();
  TRY(uint64_t value, e.cpu().xcr0());
  if (e.reg(kRcx, 4) == 1) {
    TRY(XsaveState state, e.cpu().xsave());
    uint64_t in_use = 0;
    std::copy_n(state.bytes.begin() + 512, sizeof in_use, reinterpret_cast<uint8_t*>(&in_use));
    value &= in_use;
  }
  e.set_reg(kRax, 4, value);
  e.set_reg(kRdx, 4, value >> 32);
  return {};
}

Step<void> xsetbv(Execution& e) {
  TRY_VOID(need_osxsave(e));
  if (e.cpl() != 0 || e.reg(kRcx, 4) != 0) return general_protection();
  Result<void> set = e.cpu().set_xcr0(e.reg(kRax, 4) | e.reg(kRdx, 4) << 32);
  if (!set.ok()) return general_protection();  // a combination that does not exist
  return {};
}

Step<void> rdtscp(Execution& e) {
  TRY(uint64_t tsc, e.cpu().msr(kMsrTsc));
  TRY(uint64_t aux, e.cpu().msr(kMsrTscAux));
  e.set_reg(kRax, 4, tsc);
  e.set_reg(kRdx, 4, tsc >> 32);
  e.set_reg(kRcx, 4, aux);
  return {};
}

Step<void> rdpid(Execution& e) {
  TRY(uint64_t aux, e.cpu().msr(kMsrTscAux));
  e.set_reg(e.insn().rm, e.insn().mode == CodeMode::k64 ? 8 : 4, aux & 0xffffffff);
  return {};
}

Step<void> rdfsbase(Execution& e) {
  return read_base(e, SegmentName::kFs);
}

Step<void> rdgsbase(Execution& e) {
  return read_base(e, SegmentName::kGs);
}

Step<void> wrfsbase(Execution& e) {
  return write_base(e, SegmentName::kFs);
}

Step<void> wrgsbase(Execution& e) {
  return write_base(e, SegmentName::kGs);
}

}  // namespace calf::insn
