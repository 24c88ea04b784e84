// SyscallBridge: makes SYSCALL at CPL 3 enter the guest's kernel on hosts where KVM gets it half
// right.
//
// kvm_pvm runs 64-bit code of CPL 3 on the processor itself. There SYSCALL sets RCX, R11 and RIP,
// but CPL stays 3, so the fetch of the kernel's first instruction faults, and the guest's
// page-fault handler would kill the process. That handler runs at CPL 0, where KVM interprets and
// honours breakpoints:
//
//     SYSCALL ─► #PF at LSTAR ─► frame on the kernel's stack ─► breakpoint on the handler
//                                                                   │
//     kernel's entry at CPL 0, stack as before  ◄── frame undone ───┘  if the fault is of this kind
//     the handler's next instruction            ◄───────────────────┘  if it is any other fault
//
// A breakpoint is an exit of about 10 µs for each page fault of the guest. The guest's own debug
// registers are out of work while the bridge is armed.
//
// One object per vCPU; belongs to its thread.
#pragma once

#include <cstdint>
#include <optional>

#include "devices/core/guest_memory.h"
#include "vmm/insn_completer/cpu_access.h"

namespace calf::insn {

// The processor's debug facilities, as far as the bridge uses them.
class DebugControl {
 public:
  virtual ~DebugControl() = default;
  virtual Result<void> clear() = 0;
  // Stops before the instruction at `linear` executes.
  virtual Result<void> set_breakpoint(uint64_t linear) = 0;
  // Stops after one instruction; breakpoints are off meanwhile.
  virtual Result<void> single_step() = 0;
};

class SyscallBridge {
 public:
  // All outlive this object.
  SyscallBridge(CpuAccess& cpu, DebugControl& debug, const devices::GuestMemory& memory)
      : cpu_(cpu), debug_(debug), memory_(memory) {}

  // The guest is about to write one of STAR, LSTAR and FMASK. Writes it. False: KVM refuses the
  // value, the guest is to get #GP.
  Result<bool> on_msr_write(uint32_t index, uint64_t value);

  // Looks whether the guest has another page-fault handler now. Call now and then: a guest that
  // loads its IDT after it set LSTAR (Linux does not) is noticed here and nowhere else.
  Result<void> refresh();

  // The vCPU stopped for debugging at linear address `pc`. False: not on our account.
  Result<bool> on_debug_exit(uint64_t pc);

  // The vCPU was reset.
  Result<void> reset();

  uint64_t system_calls() const { return system_calls_; }
  uint64_t other_faults() const { return other_faults_; }

 private:
  std::optional<uint64_t> page_fault_handler(const SystemRegisters& system) const;
  Result<void> pass_on(Registers registers, const SystemRegisters& system);
  Result<void> enter_kernel(Registers registers, SystemRegisters system, uint64_t flags,
                            uint64_t user_rsp);

  CpuAccess& cpu_;
  DebugControl& debug_;
  const devices::GuestMemory& memory_;
  uint64_t star_ = 0;
  uint64_t lstar_ = 0;
  uint64_t flags_mask_ = 0;
  uint64_t handler_ = 0;   // the breakpoint; 0: not armed
  bool stepping_ = false;  // over the handler's first instruction
  uint64_t system_calls_ = 0;
  uint64_t other_faults_ = 0;
};

}  // namespace calf::insn
