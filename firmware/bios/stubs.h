// The machine code of segment F000: one stub per vector (drawn in bios.h), and the few interrupt
// handlers that must be real code.
//
//   IRQ0      tick count, midnight, INT 1Ch, end of interrupt; a trap only while INT 15h 83h waits
//   IRQ1      reads the keyboard's byte, end of interrupt
//   IRQ2–7    end of interrupt; if the PIC says that there was none, the vector was a processor
//             exception (they share numbers) and it traps
//   IRQ8      RTC: INT 4Ah at an alarm, end of interrupt
//   IRQ9–15   end of interrupt
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "firmware/bios/call.h"

namespace calf::firmware {

// What a trap is about.
struct Trap {
  enum class Kind : uint8_t {
    kService,    // `vector` was called
    kTick,       // IRQ0, while a wait runs
    kException,  // `vector` is a processor exception
    kReset,      // someone jumped to the reset vector
  };
  Kind kind;
  uint8_t vector = 0;
  bool repeated = false;
  uint16_t out_offset = 0;  // of the `out` instruction, in segment F000
};

// The trap of the `out` at or just before CS:IP; nothing if none of ours stands there.
std::optional<Trap> find_trap(uint16_t cs, uint16_t ip);

// Sets IP to where `flow` leads; CS may be any alias of segment F000. Not for kJump and the like,
// except that these leave IP alone.
void leave_trap(const Trap& trap, Flow flow, RealModeRegs& regs);

// The offset in segment F000 where vector `n` points.
uint16_t vector_offset(uint8_t n);

// Writes all code to `segment`, which is the 64 KiB of F000.
void write_code(std::span<uint8_t> segment);

}  // namespace calf::firmware
