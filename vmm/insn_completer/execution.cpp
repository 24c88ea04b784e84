#include "vmm/insn_completer/execution.h"

#include "block/base/endian.h"

namespace calf::insn {

namespace {

constexpr uint64_t mask_of(unsigned bytes) {
  return bytes >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * bytes)) - 1;
}

bool is_canonical(uint64_t address, uint64_t cr4) {
  unsigned unused_bits = (cr4 & kCr4La57) != 0 ? 7 : 16;
  auto extended = static_cast<int64_t>(address << unused_bits) >> unused_bits;
  return static_cast<uint64_t>(extended) == address;
}

}  // namespace

CodeMode code_mode(const SystemRegisters& system) {
  const Segment& cs = system.segment(SegmentName::kCs);
  if ((system.efer & kEferLma) != 0 && cs.long_mode) return CodeMode::k64;
  return cs.big && (system.cr0 & kCr0Pe) != 0 ? CodeMode::k32 : CodeMode::k16;
}

Execution::Execution(CpuAccess& cpu, const devices::GuestMemory& memory, const Registers& regs,
                     const SystemRegisters& sys, const Instruction& instruction)
    : registers(regs), system(sys), cpu_(cpu), memory_(memory), insn_(instruction) {
  registers.rip += instruction.length;
  if (instruction.mode != CodeMode::k64) registers.rip &= mask_of(4);
}

uint64_t Execution::reg(unsigned number, unsigned bytes) const {
  if (bytes == 1 && !insn_.rex && number >= kRsp && number <= kRdi) {
    return registers.general[number - 4] >> 8 & 0xff;  // AH, CH, DH, BH
  }
  return registers.general[number] & mask_of(bytes);
}

void Execution::set_reg(unsigned number, unsigned bytes, uint64_t value) {
  uint64_t& target = registers.general[number];
  uint64_t mask = mask_of(bytes);
  target = bytes == 4 ? value & mask : (target & ~mask) | (value & mask);
}

void Execution::set_flags(uint64_t mask, uint64_t value) {
  registers.rflags = (registers.rflags & ~mask) | (value & mask) | kFlagsFixed;
}

uint64_t Execution::effective_offset() const {
  uint64_t offset = static_cast<uint64_t>(insn_.displacement);
  if (insn_.base) offset += registers.general[*insn_.base];
  if (insn_.index) offset += registers.general[*insn_.index] * insn_.scale;
  if (insn_.rip_relative) offset += registers.rip;  // of the next instruction
  return offset & mask_of(insn_.address_size());
}

Step<uint64_t> Execution::operand_address(uint64_t bytes) {
  SegmentName segment = SegmentName::kDs;
  if (insn_.base && (*insn_.base == kRsp || *insn_.base == kRbp)) segment = SegmentName::kSs;
  if (insn_.segment) segment = *insn_.segment;
  return linear_address(segment, effective_offset(), bytes);
}

Step<uint64_t> Execution::linear_address(SegmentName name, uint64_t offset, uint64_t bytes) {
  const Segment& segment = system.segment(name);
  Exception fault = name == SegmentName::kSs ? stack_fault() : general_protection();
  if (insn_.mode == CodeMode::k64) {
    bool has_base = name == SegmentName::kFs || name == SegmentName::kGs;
    uint64_t linear = offset + (has_base ? segment.base : 0);
    bool good = is_canonical(linear, system.cr4) && is_canonical(linear + bytes - 1, system.cr4);
    if (!good) return fault;
    return linear;
  }
  if (segment.unusable) return fault;
  bool expands_down = segment.code_or_data && (segment.type & 0xc) == 4;
  uint64_t last = offset + bytes - 1;
  uint64_t top = segment.big ? 0xffffffff : 0xffff;
  bool inside = expands_down ? offset > segment.limit && last <= top : last <= segment.limit;
  if (!inside) return fault;
  return (segment.base + offset) & mask_of(4);
}

Step<uint64_t> Execution::read_memory(uint64_t linear, unsigned bytes) {
  le64 value;
  auto raw_bytes = std::span(reinterpret_cast<uint8_t*>(&value), bytes);
  TRY_VOID(memory().read(linear, raw_bytes));
  return value.value();
}

Step<void> Execution::write_memory(uint64_t linear, unsigned bytes, uint64_t value) {
  le64 stored = value;
  return memory().write(linear, {reinterpret_cast<const uint8_t*>(&stored), bytes});
}

Step<uint64_t> Execution::read_rm(unsigned bytes) {
  if (!insn_.is_memory()) return reg(insn_.rm, bytes);
  TRY(uint64_t linear, operand_address(bytes));
  return read_memory(linear, bytes);
}

Step<void> Execution::write_rm(unsigned bytes, uint64_t value) {
  if (!insn_.is_memory()) {
    set_reg(insn_.rm, bytes, value);
    return {};
  }
  TRY(uint64_t linear, operand_address(bytes));
  return write_memory(linear, bytes, value);
}

}  // namespace calf::insn
