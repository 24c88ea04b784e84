// Reads an ELF executable of a kernel: what to load where, and where it is entered.
//
// ELF-64 and ELF-32, little-endian, x86. All numbers of the file are untrusted; what comes out lies
// inside the file and does not wrap. Whether it lies in RAM is BootMemory's question.
//
// Not supported: relocation (a position-independent file is loaded where it is linked), sections.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "block/base/byte_range.h"
#include "block/base/result.h"

namespace calf::firmware {

struct ElfSegment {
  ByteRange physical;              // at least one byte
  uint64_t virtual_address;        // of the same bytes
  std::span<const uint8_t> bytes;  // of the file, at most physical.length; the rest is zero
};

struct ElfImage {
  bool is_64bit = false;
  uint64_t entry = 0;  // physical; inside a segment
  std::vector<ElfSegment> segments;
  // Entry of the PVH protocol, from the note XEN_ELFNOTE_PHYS32_ENTRY; inside a segment.
  std::optional<uint32_t> pvh_entry;
};

bool looks_like_elf(std::span<const uint8_t> file);

// The segments' bytes are slices of `file`.
Result<ElfImage> parse_elf(std::span<const uint8_t> file);

}  // namespace calf::firmware
