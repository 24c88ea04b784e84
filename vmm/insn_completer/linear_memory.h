// LinearMemory: guest memory by linear address, as the guest's page tables map it at this moment.
//
// Walks 32-bit, PAE, 4-level and 5-level tables itself (Intel SDM vol. 3, chapter 4), with the
// checks for writes, user mode, execution, SMEP and SMAP, and sets the accessed and dirty bits.
// Nothing is cached: an object lives for one instruction.
//
// Not supported: protection keys, reserved-bit checks other than NX, memory that is not RAM.
#pragma once

#include <cstdint>
#include <span>

#include "devices/core/guest_memory.h"
#include "vmm/insn_completer/step.h"

namespace calf::insn {

enum class AccessKind : uint8_t { kRead, kWrite, kFetch };

class LinearMemory {
 public:
  // `memory` outlives this object. `supervisor` is for accesses that the processor makes for itself
  // (descriptor tables), whatever the privilege level; else CPL 3 is user mode.
  LinearMemory(const devices::GuestMemory& memory, const SystemRegisters& system, uint64_t rflags,
               bool supervisor = false);

  // An access may span pages; nothing is written if a page of it is not there.
  Step<void> read(uint64_t linear, std::span<uint8_t> to, AccessKind kind = AccessKind::kRead);
  Step<void> write(uint64_t linear, std::span<const uint8_t> from);

  // The host bytes behind [linear, linear + length), which must not cross a page. For locked
  // operations.
  Step<std::span<uint8_t>> writable(uint64_t linear, uint64_t length);

  // The physical address of one byte.
  Step<devices::Gpa> translate(uint64_t linear, AccessKind kind);

 private:
  struct Format;
  Step<devices::Gpa> walk(uint64_t linear, AccessKind kind, const Format& format);
  Step<std::span<uint8_t>> entry_bytes(uint64_t physical, uint64_t length);
  Exception page_fault(uint64_t linear, AccessKind kind, uint32_t error_bits) const;
  Step<std::span<uint8_t>> piece(uint64_t linear, uint64_t length, AccessKind kind);

  const devices::GuestMemory& memory_;
  uint64_t cr0_;
  uint64_t cr3_;
  uint64_t cr4_;
  uint64_t efer_;
  bool user_;
  bool smap_applies_;  // a supervisor access to a user page is a fault
};

}  // namespace calf::insn
