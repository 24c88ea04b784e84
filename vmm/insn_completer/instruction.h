// An instruction taken apart, and the table of those that the completer knows.
//
//   [prefixes] [REX | VEX] opcode [ModRM [SIB] [displacement]] [immediate]
//
// Intel SDM vol. 2, chapter 2. A pattern names what must match beyond the opcode, and the function
// that does the work; decoding and dispatch are the same look-up.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <variant>

#include "vmm/insn_completer/cpu_access.h"
#include "vmm/insn_completer/step.h"

namespace calf::insn {

// How the code segment makes the processor read instructions.
enum class CodeMode : uint8_t { k16, k32, k64 };

enum class OpcodeMap : uint8_t { kOneByte, k0F, k0F38, k0F3A };

struct Instruction {
  uint8_t length = 0;
  CodeMode mode = CodeMode::k64;
  OpcodeMap map = OpcodeMap::kOneByte;
  uint8_t opcode = 0;

  bool prefix_66 = false;
  bool prefix_67 = false;
  bool lock = false;
  uint8_t repeat = 0;  // 0xF2, 0xF3 (the last one), or 0
  std::optional<SegmentName> segment;
  bool rex = false;    // a REX prefix is there: bytes 4 to 7 are SPL…DIL, not AH…BH
  bool rex_w = false;  // or VEX.W
  bool rex_r = false;
  bool rex_x = false;
  bool rex_b = false;
  bool vex = false;
  bool vex_256 = false;
  uint8_t vex_register = 0;  // VEX.vvvv

  bool has_modrm = false;
  uint8_t modrm = 0;
  uint8_t mod = 0;
  uint8_t reg = 0;  // with REX.R
  uint8_t rm = 0;   // a register, with REX.B, if mod is 3
  // The parts of a memory operand.
  std::optional<uint8_t> base;
  std::optional<uint8_t> index;
  uint8_t scale = 1;
  int64_t displacement = 0;
  bool rip_relative = false;

  uint64_t immediate = 0;

  bool is_memory() const { return has_modrm && mod != 3; }
  // In bytes: 2, 4 or 8.
  unsigned operand_size() const;
  unsigned address_size() const;
};

class Execution;
using Handler = Step<void> (*)(Execution&);

// Which of 66, F3, F2 stand before the opcode and so choose the instruction.
enum class Mandatory : uint8_t { kAny, kNone, k66, kF3, kF2, kNoneOr66 };
enum class Form : uint8_t { kNoModrm, kAny, kMemory, kRegister };

struct Pattern {
  OpcodeMap map;
  uint8_t opcode;
  Mandatory mandatory;
  Form form;
  int8_t extension;     // ModRM.reg, or -1: any
  int16_t exact_modrm;  // the whole ModRM byte, or -1: any
  uint8_t immediate;    // bytes
  bool vex;
  std::string_view name;
  Handler handler;
};

// All patterns, in no particular order.
std::span<const Pattern> patterns();

struct Decoded {
  Instruction instruction;
  const Pattern* pattern;
};
enum class DecodeFailure : uint8_t {
  kIncomplete,  // more bytes are needed
  kUnknown,
};

// `bytes` start at the instruction; what follows it is ignored.
std::variant<Decoded, DecodeFailure> decode(std::span<const uint8_t> bytes, CodeMode mode);

}  // namespace calf::insn
