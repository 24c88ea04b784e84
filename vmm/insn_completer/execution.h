// Execution: one instruction being carried out: registers, memory, operands, flags.
//
// Handlers change copies of the registers; the completer writes them back when the handler
// succeeded, so an instruction that faults has changed nothing but memory.
#pragma once

#include <cstdint>
#include <span>

#include "devices/core/guest_memory.h"
#include "vmm/insn_completer/instruction.h"
#include "vmm/insn_completer/linear_memory.h"

namespace calf::insn {

CodeMode code_mode(const SystemRegisters& system);

class Execution {
 public:
  Execution(CpuAccess& cpu, const devices::GuestMemory& memory, const Registers& registers,
            const SystemRegisters& system, const Instruction& instruction);

  CpuAccess& cpu() { return cpu_; }
  const Instruction& insn() const { return insn_; }
  const devices::GuestMemory& guest_memory() const { return memory_; }
  unsigned size() const { return insn_.operand_size(); }
  uint8_t cpl() const { return protected_mode() ? system.cpl() : 0; }
  bool protected_mode() const { return (system.cr0 & kCr0Pe) != 0; }
  bool virtual_8086() const { return (registers.rflags & kVirtual8086) != 0; }

  // Where the next instruction begins; handlers of jumps change it.
  Registers registers;
  SystemRegisters system;
  // Set by a handler that changed `system`.
  bool system_changed = false;
  // What the guest gets when the instruction is done, with RIP behind it. At most one.
  std::optional<Exception> trap;
  std::optional<uint8_t> software_interrupt;

  // ---- Registers ----
  uint64_t reg(unsigned number, unsigned bytes) const;
  // 2, 4 or 8 bytes. 32-bit writes clear the upper half, 16-bit ones keep the rest.
  void set_reg(unsigned number, unsigned bytes, uint64_t value);
  // Sets the flags of `mask` as in `value`.
  void set_flags(uint64_t mask, uint64_t value);
  void set_flag(uint64_t flag, bool on) { set_flags(flag, on ? flag : 0); }

  // ---- Memory ----
  // The linear address of `bytes` bytes of the memory operand, segment and canonical checks done.
  Step<uint64_t> operand_address(uint64_t bytes);
  Step<uint64_t> linear_address(SegmentName segment, uint64_t offset, uint64_t bytes);
  LinearMemory memory() { return {memory_, system, registers.rflags}; }
  LinearMemory supervisor_memory() { return {memory_, system, registers.rflags, true}; }
  Step<uint64_t> read_memory(uint64_t linear, unsigned bytes);
  Step<void> write_memory(uint64_t linear, unsigned bytes, uint64_t value);

  // ---- The ModRM operand, register or memory ----
  Step<uint64_t> read_rm(unsigned bytes);
  Step<void> write_rm(unsigned bytes, uint64_t value);

 private:
  uint64_t effective_offset() const;

  CpuAccess& cpu_;
  const devices::GuestMemory& memory_;
  const Instruction& insn_;
};

}  // namespace calf::insn
