// Call: one BIOS call in progress, as the services share it.
#pragma once

#include <cstdint>

#include "firmware/bios/real_memory.h"
#include "firmware/bios/regs.h"

namespace calf::firmware {

// Where the guest goes on after a service.
enum class Flow : uint8_t {
  kReturn,      // iret
  kWait,        // sti, hlt, ask the service again
  kSpin,        // interrupts on, ask the service again at once
  kJump,        // the service has set CS:IP
  kReset,       // the machine is reset
  kNoBootDisk,  // nothing to boot from; the service has set CS:IP
};

struct Call {
  RealModeRegs& regs;
  const RealMemory& memory;
  bool repeated = false;  // the service asked to wait before, for this same call
  Flow flow = Flow::kReturn;

  // The flags that the caller gets back: the third word of the interrupt frame.
  uint16_t caller_flags() const { return memory.word(regs.ss, flags_offset()); }
  void set_caller_flag(uint16_t flag, bool on) {
    uint16_t flags = caller_flags();
    flags = static_cast<uint16_t>(on ? flags | flag : flags & ~flag);
    memory.set_word(regs.ss, flags_offset(), flags);
  }
  void set_carry(bool on) { set_caller_flag(kFlagCarry, on); }

  // The two usual ends of a call.
  void succeed() {
    regs.ax.set_high(0);
    set_carry(false);
  }
  void fail(uint8_t code) {
    regs.ax.set_high(code);
    set_carry(true);
  }

  // Identifies the interrupt frame: the same for all repetitions of a call.
  uint64_t frame() const { return raw(linear(regs.ss, regs.sp.word())); }

 private:
  uint16_t flags_offset() const { return static_cast<uint16_t>(regs.sp.word() + 4); }
};

// "Function not supported", where INT 15h's convention holds.
inline constexpr uint8_t kUnsupportedFunction = 0x86;

}  // namespace calf::firmware
