// Bit counting, CRC32, byte swapping moves, wide compare-and-exchange, random numbers.
#include <sys/random.h>

#include <bit>

#include "vmm/insn_completer/handlers.h"

namespace calf::insn {

namespace {

constexpr uint32_t kCastagnoli = 0x82f63b78;  // reflected

uint64_t swap_bytes(uint64_t value, unsigned bytes) {
  return __builtin_bswap64(value) >> (64 - 8 * bytes);
}

// Compares the 16 aligned bytes at `at` with expected[2] and stores desired[2] if they are equal;
// else expected[2] becomes what is there.
bool compare_exchange_16(uint8_t* at, uint64_t* expected, const uint64_t* desired) {
  bool equal;
  asm volatile("lock cmpxchg16b %1"
               : "=@cce"(equal), "+m"(*reinterpret_cast<uint64_t(*)[2]>(at)), "+a"(expected[0]),
                 "+d"(expected[1])
               : "b"(desired[0]), "c"(desired[1])
               : "memory");
  return equal;
}

Step<void> cmpxchg16b(Execution& e) {
  TRY(uint64_t linear, e.operand_address(16));
  if (linear % 16 != 0) return general_protection();
  TRY(std::span<uint8_t> bytes, e.memory().writable(linear, 16));
  uint64_t expected[2] = {e.reg(kRax, 8), e.reg(kRdx, 8)};
  uint64_t desired[2] = {e.reg(kRbx, 8), e.reg(kRcx, 8)};
  bool equal = compare_exchange_16(bytes.data(), expected, desired);
  if (!equal) {
    e.set_reg(kRax, 8, expected[0]);
    e.set_reg(kRdx, 8, expected[1]);
  }
  e.set_flag(kZero, equal);
  return {};
}

Step<void> cmpxchg8b(Execution& e) {
  TRY(uint64_t linear, e.operand_address(8));
  TRY(std::span<uint8_t> bytes, e.memory().writable(linear, 8));
  uint64_t expected = e.reg(kRax, 4) | e.reg(kRdx, 4) << 32;
  uint64_t desired = e.reg(kRbx, 4) | e.reg(kRcx, 4) << 32;
  bool equal = __atomic_compare_exchange_n(reinterpret_cast<uint64_t*>(bytes.data()), &expected,
                                           desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  if (!equal) {
    e.set_reg(kRax, 4, expected);
    e.set_reg(kRdx, 4, expected >> 32);
  }
  e.set_flag(kZero, equal);
  return {};
}

// ADCX and ADOX: an addition whose carry lives in one flag.
Step<void> add_with(Execution& e, uint64_t flag) {
  unsigned size = e.insn().rex_w ? 8 : 4;
  TRY(uint64_t source, e.read_rm(size));
  uint64_t carry = (e.registers.rflags & flag) != 0 ? 1 : 0;
  uint64_t before = e.reg(e.insn().reg, size);
  uint64_t sum = before + source + carry;
  bool carried = size == 4 ? sum >> 32 != 0 : (carry != 0 ? sum <= before : sum < before);
  e.set_reg(e.insn().reg, size, sum);
  e.set_flag(flag, carried);
  return {};
}

}  // namespace

Step<void> popcnt(Execution& e) {
  TRY(uint64_t source, e.read_rm(e.size()));
  e.set_reg(e.insn().reg, e.size(), static_cast<uint64_t>(std::popcount(source)));
  e.set_flags(kArithmetic, source == 0 ? kZero : 0);
  return {};
}

Step<void> tzcnt(Execution& e) {
  TRY(uint64_t source, e.read_rm(e.size()));
  uint64_t count = source == 0 ? 8 * e.size() : static_cast<uint64_t>(std::countr_zero(source));
  e.set_reg(e.insn().reg, e.size(), count);
  e.set_flag(kCarry, source == 0);
  e.set_flag(kZero, count == 0);
  return {};
}

Step<void> lzcnt(Execution& e) {
  TRY(uint64_t source, e.read_rm(e.size()));
  uint64_t count = static_cast<uint64_t>(std::countl_zero(source)) - (64 - 8 * e.size());
  e.set_reg(e.insn().reg, e.size(), count);
  e.set_flag(kCarry, source == 0);
  e.set_flag(kZero, count == 0);
  return {};
}

Step<void> crc32(Execution& e) {
  unsigned source_size = e.insn().opcode == 0xf0 ? 1 : e.size();
  TRY(uint64_t source, e.read_rm(source_size));
  auto crc = static_cast<uint32_t>(e.reg(e.insn().reg, 4));
  for (unsigned i = 0; i < source_size; ++i) {
    crc ^= static_cast<uint8_t>(source >> (8 * i));
    for (unsigned bit = 0; bit < 8; ++bit)
      crc = crc >> 1 ^ ((crc & 1) != 0 ? kCastagnoli : 0);
  }
  e.set_reg(e.insn().reg, 4, crc);
  return {};
}

Step<void> movbe_load(Execution& e) {
  TRY(uint64_t source, e.read_rm(e.size()));
  e.set_reg(e.insn().reg, e.size(), swap_bytes(source, e.size()));
  return {};
}

Step<void> movbe_store(Execution& e) {
  return e.write_rm(e.size(), swap_bytes(e.reg(e.insn().reg, e.size()), e.size()));
}

Step<void> cmpxchg8b_16b(Execution& e) {
  return e.insn().rex_w ? cmpxchg16b(e) : cmpxchg8b(e);
}

Step<void> adcx(Execution& e) {
  return add_with(e, kCarry);
}

Step<void> adox(Execution& e) {
  return add_with(e, kOverflow);
}

// RDRAND and RDSEED. The host's generator never runs dry after boot.
Step<void> rdrand(Execution& e) {
  uint64_t value = 0;
  bool got = getrandom(&value, sizeof value, GRND_NONBLOCK) == static_cast<ssize_t>(sizeof value);
  e.set_reg(e.insn().rm, e.size(), got ? value : 0);
  e.set_flags(kArithmetic, got ? kCarry : 0);
  return {};
}

}  // namespace calf::insn
