// The registers of a vCPU in real mode, as a BIOS service sees them.
//
// They are the whole 32-bit registers: E820 and EDD callers pass EAX … EDI. A service that is
// defined on 16-bit registers leaves the upper halves alone, as code on a CPU would.
#pragma once

#include <cstdint>

namespace calf::firmware {

// A register that is read and written as 32, 16 or twice 8 bits.
class Register {
 public:
  constexpr Register() = default;
  constexpr explicit Register(uint32_t value) : value_(value) {}

  constexpr uint32_t all() const { return value_; }
  constexpr uint16_t word() const { return static_cast<uint16_t>(value_); }
  constexpr uint8_t low() const { return static_cast<uint8_t>(value_); }
  constexpr uint8_t high() const { return static_cast<uint8_t>(value_ >> 8); }

  constexpr void set_all(uint32_t value) { value_ = value; }
  constexpr void set_word(uint32_t value) { value_ = (value_ & 0xFFFF0000) | (value & 0xFFFF); }
  constexpr void set_low(uint32_t value) { value_ = (value_ & ~0xFFu) | (value & 0xFF); }
  constexpr void set_high(uint32_t value) { value_ = (value_ & ~0xFF00u) | ((value & 0xFF) << 8); }

  friend constexpr bool operator==(Register, Register) = default;

 private:
  uint32_t value_ = 0;
};

struct RealModeRegs {
  Register ax, bx, cx, dx, si, di, bp, sp;
  uint16_t ip = 0;
  // Selectors. The services take a segment's base to be 16 times its selector, also where a guest
  // in "unreal" mode has given it another limit.
  uint16_t cs = 0, ds = 0, es = 0, fs = 0, gs = 0, ss = 0;
  // The processor's own flags at the trap. The caller's flags are an image on its stack.
  uint32_t flags = 0;

  friend constexpr bool operator==(const RealModeRegs&, const RealModeRegs&) = default;
};

// Bits of FLAGS.
inline constexpr uint16_t kFlagCarry = 1u << 0;
inline constexpr uint16_t kFlagAlwaysOne = 1u << 1;
inline constexpr uint16_t kFlagZero = 1u << 6;
inline constexpr uint16_t kFlagInterrupts = 1u << 9;

}  // namespace calf::firmware
