// The bytes of a sparse vmdk extent: structures, magic numbers, limits.
//
//     sector 0   descriptor    tables                           grains
//     ┌────────┬─────────────┬──────────────────────────────┬──────────────┐
//     │ header │ text        │ grain directory ─> tables ───┼─> grain …    │
//     └────────┴─────────────┴──────────────────────────────┴──────────────┘
//
// Stream-optimized files have the directory at the end, found through a second header (the footer)
// in front of the last sector, and compressed grains with a marker in front.
//
// Spec: VMware, Virtual Disk Format 1.1. All integers are little-endian, places are in sectors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block/base/endian.h"

namespace calf::vmdk::format {

inline constexpr uint32_t kMagic = 0x564d444b;      // "KDMV"
inline constexpr uint32_t kMagicCowd = 0x44574f43;  // "COWD": ESX 2, not supported
inline constexpr uint64_t kSector = 512;

struct SparseHeader {
  le32 magic;              //  0
  le32 version;            //  4
  le32 flags;              //  8
  le64 capacity;           // 12  sectors of the disk
  le64 grain_size;         // 20  sectors
  le64 descriptor_offset;  // 28  0: none
  le64 descriptor_size;    // 36
  le32 table_entries;      // 44  grains that one table maps
  le64 redundant_offset;   // 48  a second grain directory
  le64 directory_offset;   // 56
  le64 overhead;           // 64
  uint8_t unclean;         // 72
  uint8_t line_ends[4];    // 73  "\n \r\n": shows what a text transfer did to the file
  le16 compression;        // 77
  uint8_t padding[433];    // 79
};
static_assert(sizeof(SparseHeader) == 512);
static_assert(offsetof(SparseHeader, directory_offset) == 56);
static_assert(offsetof(SparseHeader, compression) == 77);

inline constexpr uint32_t kMaxVersion = 3;
// Flags.
inline constexpr uint32_t kNewlineTest = 1U << 0;
inline constexpr uint32_t kRedundantTables = 1U << 1;
inline constexpr uint32_t kZeroGrains = 1U << 2;
inline constexpr uint32_t kCompressed = 1U << 16;
inline constexpr uint32_t kMarkers = 1U << 17;

inline constexpr uint16_t kDeflate = 1;
inline constexpr uint64_t kDirectoryAtEnd = UINT64_MAX;

// In front of a compressed grain.
struct GrainMarker {
  le64 sector;  // of the disk
  le32 size;    // bytes that follow
};
static_assert(sizeof(GrainMarker) == 12);

// In front of everything else in a stream.
struct Marker {
  le64 sectors;
  le32 size;  // 0: no grain
  le32 type;
  uint8_t padding[496];
};
static_assert(sizeof(Marker) == 512);
inline constexpr uint32_t kMarkerEnd = 0;
inline constexpr uint32_t kMarkerFooter = 3;

// Entries of a grain table.
inline constexpr uint32_t kUnallocated = 0;
inline constexpr uint32_t kZeroGrain = 1;  // with kZeroGrains

// Limits. Those of a directory and a grain are QEMU's.
inline constexpr uint32_t kMaxTableEntries = 512;
inline constexpr uint64_t kMaxGrainSectors = 0x200000;
inline constexpr uint64_t kMaxDirectoryBytes = 32 << 20;
// Compressed grains are unpacked in memory, several at a time. VMware writes 64 KiB.
inline constexpr uint64_t kMaxCompressedGrain = 8 << 20;
inline constexpr uint64_t kMaxDescriptor = 1 << 20;

}  // namespace calf::vmdk::format
