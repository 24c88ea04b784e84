// The descriptor table and page tables that a kernel finds itself running on.
#pragma once

#include "block/base/result.h"
#include "firmware/boot/boot_memory.h"
#include "firmware/boot/entry_state.h"

namespace calf::firmware {

// Selectors as Linux's boot protocol names them.
inline constexpr uint16_t kBootCodeSegment = 0x10;
inline constexpr uint16_t kBootDataSegment = 0x18;

// Entry state for flat 32-bit protected mode, paging off; only the table's address and selectors
// are filled in.
Result<EntryState> prepare_protected32(BootMemory& memory);

// The same for 64-bit mode with the first 4 GiB mapped one to one, in pages of 2 MiB.
Result<EntryState> prepare_long64(BootMemory& memory);

}  // namespace calf::firmware
