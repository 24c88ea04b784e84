// BMI1 and BMI2. Operands are 32 or 64 bits; the VEX register is the extra source.
#include <bit>

#include "vmm/insn_completer/handlers.h"

namespace calf::insn {

namespace {

unsigned vex_size(const Execution& e) {
  return e.insn().rex_w ? 8 : 4;
}

uint64_t vex_source(const Execution& e) {
  return e.reg(e.insn().vex_register, vex_size(e));
}

uint64_t sign_bit(unsigned bytes) {
  return uint64_t{1} << (8 * bytes - 1);
}

uint64_t low_bits(uint64_t count) {
  return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

// ZF and SF by the result, OF clear, CF as given; AF and PF are undefined.
void set_result_flags(Execution& e, uint64_t result, bool carry) {
  uint64_t flags = carry ? kCarry : 0;
  if (result == 0) flags |= kZero;
  if ((result & sign_bit(vex_size(e))) != 0) flags |= kSign;
  e.set_flags(kCarry | kZero | kSign | kOverflow, flags);
}

// BLSR, BLSMSK, BLSI write the VEX register.
Step<void> lowest_bit(Execution& e, uint64_t (*operation)(uint64_t), bool carry_if_zero) {
  unsigned size = vex_size(e);
  TRY(uint64_t source, e.read_rm(size));
  uint64_t result = operation(source) & low_bits(8 * size);
  e.set_reg(e.insn().vex_register, size, result);
  set_result_flags(e, result, (source == 0) == carry_if_zero);
  return {};
}

Step<void> shift(Execution& e, uint64_t (*operation)(uint64_t, unsigned count, unsigned bytes)) {
  unsigned size = vex_size(e);
  TRY(uint64_t source, e.read_rm(size));
  auto count = static_cast<unsigned>(vex_source(e) & (8 * size - 1));
  e.set_reg(e.insn().reg, size, operation(source, count, size));
  return {};
}

}  // namespace

Step<void> andn(Execution& e) {
  unsigned size = vex_size(e);
  TRY(uint64_t source, e.read_rm(size));
  uint64_t result = ~vex_source(e) & source;
  e.set_reg(e.insn().reg, size, result);
  set_result_flags(e, result, false);
  return {};
}

Step<void> bextr(Execution& e) {
  unsigned size = vex_size(e);
  TRY(uint64_t source, e.read_rm(size));
  uint64_t control = vex_source(e);
  uint64_t start = control & 0xff;
  uint64_t length = control >> 8 & 0xff;
  uint64_t result = start >= 64 ? 0 : source >> start & low_bits(length);
  e.set_reg(e.insn().reg, size, result);
  e.set_flags(kCarry | kOverflow | kZero, result == 0 ? kZero : 0);
  return {};
}

Step<void> blsr(Execution& e) {
  return lowest_bit(
      e, [](uint64_t x) { return x & (x - 1); }, true);
}

Step<void> blsmsk(Execution& e) {
  return lowest_bit(
      e, [](uint64_t x) { return x ^ (x - 1); }, true);
}

Step<void> blsi(Execution& e) {
  return lowest_bit(
      e, [](uint64_t x) { return x & (~x + 1); }, false);
}

Step<void> bzhi(Execution& e) {
  unsigned size = vex_size(e);
  TRY(uint64_t source, e.read_rm(size));
  uint64_t index = vex_source(e) & 0xff;
  bool beyond = index >= 8 * size;
  uint64_t result = beyond ? source : source & low_bits(index);
  e.set_reg(e.insn().reg, size, result);
  set_result_flags(e, result, beyond);
  return {};
}

Step<void> pdep(Execution& e) {
  unsigned size = vex_size(e);
  TRY(uint64_t mask, e.read_rm(size));
  uint64_t source = vex_source(e);
  uint64_t result = 0;
  for (; mask != 0; mask &= mask - 1, source >>= 1) {
    if ((source & 1) != 0) result |= mask & (~mask + 1);
  }
  e.set_reg(e.insn().reg, size, result);
  return {};
}

Step<void> pext(Execution& e) {
  unsigned size = vex_size(e);
  TRY(uint64_t mask, e.read_rm(size));
  uint64_t source = vex_source(e);
  uint64_t result = 0;
  for (unsigned at = 0; mask != 0; mask &= mask - 1, ++at) {
    if ((source & mask & (~mask + 1)) != 0) result |= uint64_t{1} << at;
  }
  e.set_reg(e.insn().reg, size, result);
  return {};
}

// High half to ModRM.reg, low half to the VEX register; if they are the same, the high half stays.
Step<void> mulx(Execution& e) {
  unsigned size = vex_size(e);
  TRY(uint64_t a, e.read_rm(size));
  uint64_t b = e.reg(kRdx, size);
  __extension__ using Wide = unsigned __int128;
  Wide product = static_cast<Wide>(a) * b;
  e.set_reg(e.insn().vex_register, size, static_cast<uint64_t>(product));
  e.set_reg(e.insn().reg, size, static_cast<uint64_t>(product >> (8 * size)));
  return {};
}

Step<void> rorx(Execution& e) {
  unsigned size = vex_size(e);
  TRY(uint64_t source, e.read_rm(size));
  auto count = static_cast<int>(e.insn().immediate & (8 * size - 1));
  uint64_t result =
      size == 8 ? std::rotr(source, count) : std::rotr(static_cast<uint32_t>(source), count);
  e.set_reg(e.insn().reg, size, result);
  return {};
}

Step<void> sarx(Execution& e) {
  return shift(e, [](uint64_t x, unsigned count, unsigned bytes) -> uint64_t {
    if (bytes == 8) return static_cast<uint64_t>(static_cast<int64_t>(x) >> count);
    return static_cast<uint32_t>(static_cast<int32_t>(x) >> count);
  });
}

Step<void> shlx(Execution& e) {
  return shift(e, [](uint64_t x, unsigned count, unsigned) { return x << count; });
}

Step<void> shrx(Execution& e) {
  return shift(e, [](uint64_t x, unsigned count, unsigned) { return x >> count; });
}

}  // namespace calf::insn
