#include <algorithm>

#include "vmm/insn_completer/instruction.h"

namespace calf::insn {

namespace {

constexpr size_t kMaxLength = 15;

// Reads on, and remembers having run out.
class Bytes {
 public:
  explicit Bytes(std::span<const uint8_t> bytes)
      : bytes_(bytes.first(std::min(bytes.size(), kMaxLength))) {}
  uint8_t peek() {
    if (at_ < bytes_.size()) return bytes_[at_];
    short_ = true;
    return 0;
  }
  uint8_t next() {
    uint8_t byte = peek();
    ++at_;
    return byte;
  }
  uint64_t next_little_endian(unsigned count) {
    uint64_t value = 0;
    for (unsigned i = 0; i < count; ++i)
      value |= uint64_t{next()} << (8 * i);
    return value;
  }
  int64_t next_signed(unsigned count) {
    unsigned unused_bits = 64 - 8 * count;
    return static_cast<int64_t>(next_little_endian(count) << unused_bits) >> unused_bits;
  }
  bool ran_out() const { return short_; }
  size_t position() const { return at_; }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
  bool short_ = false;
};

bool take_legacy_prefix(Instruction& insn, uint8_t byte) {
  switch (byte) {
    case 0x66:
      insn.prefix_66 = true;
      return true;
    case 0x67:
      insn.prefix_67 = true;
      return true;
    case 0xf0:
      insn.lock = true;
      return true;
    case 0xf2:
    case 0xf3:
      insn.repeat = byte;
      return true;
    case 0x26:
      insn.segment = SegmentName::kEs;
      return true;
    case 0x2e:
      insn.segment = SegmentName::kCs;
      return true;
    case 0x36:
      insn.segment = SegmentName::kSs;
      return true;
    case 0x3e:
      insn.segment = SegmentName::kDs;
      return true;
    case 0x64:
      insn.segment = SegmentName::kFs;
      return true;
    case 0x65:
      insn.segment = SegmentName::kGs;
      return true;
    default:
      return false;
  }
}

void take_rex(Instruction& insn, uint8_t rex) {
  insn.rex = true;
  insn.rex_w = (rex & 8) != 0;
  insn.rex_r = (rex & 4) != 0;
  insn.rex_x = (rex & 2) != 0;
  insn.rex_b = (rex & 1) != 0;
}

// The first byte of VEX is LES or LDS outside of 64-bit mode, unless what would be their ModRM byte
// names a register.
bool is_vex(const Instruction& insn, uint8_t first, uint8_t second) {
  if (first != 0xc4 && first != 0xc5) return false;
  return insn.mode == CodeMode::k64 || (second & 0xc0) == 0xc0;
}

// False: not an encoding that exists.
bool take_vex(Instruction& insn, Bytes& bytes) {
  insn.vex = true;
  bool three_bytes = bytes.next() == 0xc4;
  uint8_t byte = bytes.next();
  bool sixty_four = insn.mode == CodeMode::k64;
  insn.rex_r = sixty_four && (byte & 0x80) == 0;
  insn.map = OpcodeMap::k0F;
  if (three_bytes) {
    insn.rex_x = sixty_four && (byte & 0x40) == 0;
    insn.rex_b = sixty_four && (byte & 0x20) == 0;
    uint8_t map = byte & 0x1f;
    if (map < 1 || map > 3) return false;
    insn.map = static_cast<OpcodeMap>(map);
    byte = bytes.next();
    insn.rex_w = (byte & 0x80) != 0;
  }
  insn.vex_register = ~byte >> 3 & (sixty_four ? 15 : 7);
  insn.vex_256 = (byte & 4) != 0;
  constexpr uint8_t kRepeat[] = {0, 0, 0xf3, 0xf2};
  insn.prefix_66 = (byte & 3) == 1;
  insn.repeat = kRepeat[byte & 3];
  return true;
}

void take_map(Instruction& insn, Bytes& bytes) {
  insn.opcode = bytes.next();
  if (insn.vex || insn.opcode != 0x0f) return;
  insn.map = OpcodeMap::k0F;
  insn.opcode = bytes.next();
  if (insn.opcode != 0x38 && insn.opcode != 0x3a) return;
  insn.map = insn.opcode == 0x38 ? OpcodeMap::k0F38 : OpcodeMap::k0F3A;
  insn.opcode = bytes.next();
}

void take_address_16(Instruction& insn, Bytes& bytes) {
  constexpr int8_t kNo = -1;
  constexpr int8_t kBases[] = {kRbx, kRbx, kRbp, kRbp, kRsi, kRdi, kRbp, kRbx};
  constexpr int8_t kIndices[] = {kRsi, kRdi, kRsi, kRdi, kNo, kNo, kNo, kNo};
  unsigned rm = insn.modrm & 7;
  if (insn.mod == 0 && rm == 6) {
    insn.displacement = static_cast<int64_t>(bytes.next_little_endian(2));
    return;
  }
  insn.base = static_cast<uint8_t>(kBases[rm]);
  if (kIndices[rm] != kNo) insn.index = static_cast<uint8_t>(kIndices[rm]);
  if (insn.mod != 0) insn.displacement = bytes.next_signed(insn.mod == 1 ? 1 : 2);
}

void take_address_32(Instruction& insn, Bytes& bytes) {
  unsigned rm = insn.modrm & 7;
  uint8_t base = static_cast<uint8_t>(rm);
  if (rm == 4) {
    uint8_t sib = bytes.next();
    uint8_t index = static_cast<uint8_t>((sib >> 3 & 7) | (insn.rex_x ? 8 : 0));
    if (index != kRsp) insn.index = index;
    insn.scale = static_cast<uint8_t>(1 << (sib >> 6));
    base = sib & 7;
  }
  if (insn.mod == 0 && base == 5) {
    insn.displacement = bytes.next_signed(4);
    insn.rip_relative = rm == 5 && insn.mode == CodeMode::k64;
    return;
  }
  insn.base = static_cast<uint8_t>(base | (insn.rex_b ? 8 : 0));
  if (insn.mod != 0) insn.displacement = bytes.next_signed(insn.mod == 1 ? 1 : 4);
}

void take_modrm(Instruction& insn, Bytes& bytes) {
  insn.has_modrm = true;
  insn.modrm = bytes.next();
  insn.mod = insn.modrm >> 6;
  insn.reg = static_cast<uint8_t>((insn.modrm >> 3 & 7) | (insn.rex_r ? 8 : 0));
  if (insn.mod == 3) {
    insn.rm = static_cast<uint8_t>((insn.modrm & 7) | (insn.rex_b ? 8 : 0));
  } else if (insn.address_size() == 2) {
    take_address_16(insn, bytes);
  } else {
    take_address_32(insn, bytes);
  }
}

bool mandatory_matches(const Pattern& pattern, const Instruction& insn) {
  switch (pattern.mandatory) {
    case Mandatory::kAny:
      return true;
    case Mandatory::kNone:
      return insn.repeat == 0 && !insn.prefix_66;
    case Mandatory::k66:
      return insn.repeat == 0 && insn.prefix_66;
    case Mandatory::kF3:
      return insn.repeat == 0xf3;
    case Mandatory::kF2:
      return insn.repeat == 0xf2;
    case Mandatory::kNoneOr66:
      return insn.repeat == 0;
  }
  return false;
}

bool same_opcode(const Pattern& pattern, const Instruction& insn) {
  return pattern.map == insn.map && pattern.opcode == insn.opcode && pattern.vex == insn.vex;
}

bool matches(const Pattern& pattern, const Instruction& insn) {
  if (!same_opcode(pattern, insn) || !mandatory_matches(pattern, insn)) return false;
  if (pattern.form == Form::kMemory && !insn.is_memory()) return false;
  if (pattern.form == Form::kRegister && insn.is_memory()) return false;
  if (pattern.extension >= 0 && pattern.extension != (insn.modrm >> 3 & 7)) return false;
  return pattern.exact_modrm < 0 || pattern.exact_modrm == insn.modrm;
}

}  // namespace

unsigned Instruction::operand_size() const {
  if (rex_w) return 8;
  bool wide = mode != CodeMode::k16;
  return wide != prefix_66 ? 4 : 2;
}

unsigned Instruction::address_size() const {
  if (mode == CodeMode::k64) return prefix_67 ? 4 : 8;
  bool wide = mode == CodeMode::k32;
  return wide != prefix_67 ? 4 : 2;
}

std::variant<Decoded, DecodeFailure> decode(std::span<const uint8_t> code, CodeMode mode) {
  Instruction insn;
  insn.mode = mode;
  Bytes bytes(code);
  while (!bytes.ran_out() && take_legacy_prefix(insn, bytes.peek()))
    bytes.next();
  if (mode == CodeMode::k64 && (bytes.peek() & 0xf0) == 0x40) take_rex(insn, bytes.next());
  uint8_t second = bytes.position() + 1 < code.size() ? code[bytes.position() + 1] : 0;
  if (is_vex(insn, bytes.peek(), second)) {
    if (!take_vex(insn, bytes)) return DecodeFailure::kUnknown;
  }
  take_map(insn, bytes);
  if (bytes.ran_out()) {
    return code.size() < kMaxLength ? DecodeFailure::kIncomplete : DecodeFailure::kUnknown;
  }

  // Patterns of one opcode agree on whether a ModRM byte follows.
  std::span<const Pattern> all = patterns();
  auto first =
      std::find_if(all.begin(), all.end(), [&](const Pattern& p) { return same_opcode(p, insn); });
  if (first == all.end()) return DecodeFailure::kUnknown;
  if (first->form != Form::kNoModrm) take_modrm(insn, bytes);
  auto found = std::find_if(first, all.end(), [&](const Pattern& p) { return matches(p, insn); });
  if (found == all.end()) {
    bool may_change = bytes.ran_out() && code.size() < kMaxLength;
    return may_change ? DecodeFailure::kIncomplete : DecodeFailure::kUnknown;
  }
  insn.immediate = bytes.next_little_endian(found->immediate);
  if (bytes.ran_out()) {
    return code.size() < kMaxLength ? DecodeFailure::kIncomplete : DecodeFailure::kUnknown;
  }
  insn.length = static_cast<uint8_t>(bytes.position());
  return Decoded{insn, &*found};
}

}  // namespace calf::insn
