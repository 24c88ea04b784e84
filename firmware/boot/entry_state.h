// The state of the boot processor when the guest's first instruction runs, for the VMM to turn into
// its hypervisor's registers. What is not named here is zero; RFLAGS is 2 (interrupts off).
//
//   mode    CR0      CR4  EFER     segments
//   real    ET       0    0        base = 16 × selector, limit 64 KiB, 16-bit code
//   prot    PE ET    0    0        flat 4 GiB, 32-bit code, busy 32-bit TSS (base 0, limit 0x67)
//   long    PE PG ET PAE  LME LMA  flat, 64-bit code
#pragma once

#include <cstdint>

#include "devices/core/guest_memory.h"

namespace calf::firmware {

enum class CpuMode : uint8_t { kReal16, kProtected32, kLong64 };

struct EntryState {
  CpuMode mode = CpuMode::kReal16;
  uint64_t rip = 0;
  uint64_t rsp = 0;
  uint64_t rax = 0;
  uint64_t rbx = 0;
  uint64_t rdx = 0;
  uint64_t rsi = 0;
  uint16_t code_segment = 0;  // a selector; DS, ES, FS, GS and SS have the other one
  uint16_t data_segment = 0;
  // Not in real mode: a descriptor table that fits the selectors.
  devices::Gpa gdt{0};
  uint16_t gdt_limit = 0;
  // Long mode only: CR3.
  devices::Gpa page_tables{0};
};

}  // namespace calf::firmware
