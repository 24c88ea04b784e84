// The PVH start information: what a kernel is told that is entered by its ELF note. Xen,
// public/arch-x86/hvm/start_info.h, version 1.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "block/base/byte_range.h"
#include "block/base/endian.h"
#include "block/base/result.h"
#include "devices/core/guest_memory.h"
#include "firmware/memory_map.h"

namespace calf::firmware {

struct PvhStartInfo {
  le32 magic;  // kPvhMagic
  le32 version;
  le32 flags;
  le32 module_count;
  le64 modules;       // address of PvhModule[]
  le64 command_line;  // address of a zero-terminated text
  le64 rsdp;
  le64 memory_map;  // address of PvhMemoryRange[]
  le32 memory_map_entries;
  le32 reserved;
};
static_assert(sizeof(PvhStartInfo) == 56);
inline constexpr uint32_t kPvhMagic = 0x336EC578;

struct PvhModule {
  le64 address;
  le64 size;
  le64 command_line;
  le64 reserved;
};
static_assert(sizeof(PvhModule) == 32);

struct PvhMemoryRange {
  le64 address;
  le64 size;
  le32 type;  // as in E820
  le32 reserved;
};
static_assert(sizeof(PvhMemoryRange) == 24);

struct PvhInfo {
  uint64_t command_line = 0;  // address
  ByteRange initrd;           // empty: none
  std::optional<devices::Gpa> rsdp;
};

// Start information, modules and memory map as one piece that stands at `address`; at most `room`
// bytes, else kResource.
Result<std::vector<uint8_t>> make_pvh_info(const PvhInfo& info, const MemoryMap& map,
                                           uint64_t address, uint64_t room);

}  // namespace calf::firmware
