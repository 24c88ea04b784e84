// The bytes of a qcow2 file, and nothing else: structures, magic numbers, limits.
//
//     cluster 0          anywhere, in whole clusters
//     ┌────────┐   L1 table ──> L2 tables ──> data clusters
//     │ header │─< refcount table ──> refcount blocks (one count per cluster of the file)
//     │ ext… │ snapshot table ──> more L1 tables
//     └────────┘   bitmap directory
//
// Spec: QEMU docs/interop/qcow2. All integers are big-endian.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block/base/endian.h"

namespace calf::qcow2::format {

inline constexpr uint32_t kMagic = 0x514649fb;  // "QFI\xfb"

struct Header {
  be32 magic;                    //   0
  be32 version;                  //   4
  be64 backing_name_offset;      //   8
  be32 backing_name_length;      //  16
  be32 cluster_bits;             //  20
  be64 size;                     //  24
  be32 encryption_method;        //  32
  be32 l1_entries;               //  36
  be64 l1_offset;                //  40
  be64 refcount_table_offset;    //  48
  be32 refcount_table_clusters;  //  56
  be32 snapshot_count;           //  60
  be64 snapshots_offset;         //  64
  // Version 3 from here.
  be64 incompatible_features;  //  72
  be64 compatible_features;    //  80
  be64 autoclear_features;     //  88
  be32 refcount_order;         //  96
  be32 header_length;          // 100
  uint8_t compression_type;    // 104, if header_length says so
  uint8_t padding[7];          // 105
};
static_assert(sizeof(Header) == 112);
static_assert(offsetof(Header, incompatible_features) == 72);
static_assert(offsetof(Header, compression_type) == 104);

inline constexpr uint32_t kHeaderLengthV2 = 72;
inline constexpr uint32_t kHeaderLengthV3Min = 104;

// Incompatible features: who does not know one must not open the image.
inline constexpr uint64_t kDirty = uint64_t{1} << 0;
inline constexpr uint64_t kCorrupt = uint64_t{1} << 1;
inline constexpr uint64_t kExternalData = uint64_t{1} << 2;
inline constexpr uint64_t kCompressionType = uint64_t{1} << 3;
inline constexpr uint64_t kExtendedL2 = uint64_t{1} << 4;
inline constexpr uint64_t kKnownIncompatible =
    kDirty | kCorrupt | kExternalData | kCompressionType | kExtendedL2;
// Compatible features.
inline constexpr uint64_t kLazyRefcounts = uint64_t{1} << 0;
// Autoclear features: who does not know one clears it before writing.
inline constexpr uint64_t kBitmaps = uint64_t{1} << 0;
inline constexpr uint64_t kRawExternalData = uint64_t{1} << 1;

// Header extensions: {type, length} and data padded to 8 bytes, up to a zero type.
struct ExtensionHeader {
  be32 type;
  be32 length;
};
inline constexpr uint32_t kExtEnd = 0;
inline constexpr uint32_t kExtBackingFormat = 0xe2792aca;
inline constexpr uint32_t kExtDataFileName = 0x44415441;
inline constexpr uint32_t kExtEncryption = 0x0537be77;
inline constexpr uint32_t kExtFeatureNames = 0x6803f857;
inline constexpr uint32_t kExtBitmaps = 0x23852875;
// Ours, "CALF": see block/base_fingerprint.h. QEMU keeps and ignores it.
inline constexpr uint32_t kExtBaseFingerprint = 0x43414c46;

struct FeatureName {
  uint8_t type;  // 0 incompatible, 1 compatible, 2 autoclear
  uint8_t bit;
  char name[46];
};
static_assert(sizeof(FeatureName) == 48);

struct EncryptionExtension {
  be64 offset;
  be64 length;
};
static_assert(sizeof(EncryptionExtension) == 16);

struct BitmapsExtension {
  be32 count;
  be32 reserved;
  be64 directory_size;
  be64 directory_offset;
};
static_assert(sizeof(BitmapsExtension) == 24);

struct BitmapDirectoryEntry {
  be64 table_offset;
  be32 table_entries;
  be32 flags;
  uint8_t type;
  uint8_t granularity_bits;
  be16 name_length;
  be32 extra_data_length;
  // extra data, name, padding to 8 bytes
};
static_assert(sizeof(BitmapDirectoryEntry) == 24);
inline constexpr uint32_t kBitmapInUse = 1u << 0;
inline constexpr uint32_t kBitmapAuto = 1u << 1;
// An entry of a bitmap table that needs no cluster.
inline constexpr uint64_t kBitmapAllOnes = 1;

struct SnapshotEntry {
  be64 l1_offset;
  be32 l1_entries;
  be16 id_length;
  be16 name_length;
  be32 date_sec;
  be32 date_nsec;
  be64 vm_clock_nsec;
  be32 vm_state_size;
  be32 extra_data_length;
  // extra data, id, name, padding to 8 bytes
};
static_assert(sizeof(SnapshotEntry) == 40);

struct SnapshotExtra {
  be64 vm_state_size;
  be64 disk_size;
  be64 icount;
};
static_assert(sizeof(SnapshotExtra) == 24);

// L1 and L2 entries.
inline constexpr uint64_t kCopied = uint64_t{1} << 63;
inline constexpr uint64_t kCompressed = uint64_t{1} << 62;
inline constexpr uint64_t kZero = uint64_t{1} << 0;
inline constexpr uint64_t kOffsetMask = 0x00fffffffffffe00;  // bits 9 to 55
inline constexpr uint64_t kL1Reserved = 0x7f000000000001ff;
inline constexpr uint64_t kL2Reserved = 0x3f000000000001fe;
// Refcount table entries: bits 9 to 63.
inline constexpr uint64_t kRefcountOffsetMask = ~uint64_t{0x1ff};

// Host offsets end here: the width of an L2 entry's offset field.
inline constexpr uint64_t kMaxHostOffset = uint64_t{1} << 56;

// Limits, QEMU's.
inline constexpr unsigned kMinClusterBits = 9;
inline constexpr unsigned kMaxClusterBits = 21;
// Extended L2 entries want clusters of at least this size.
inline constexpr uint64_t kMinExtendedCluster = 16384;
inline constexpr uint64_t kMaxL1Bytes = uint64_t{32} << 20;
inline constexpr uint64_t kMaxRefcountTableBytes = uint64_t{8} << 20;
inline constexpr uint32_t kMaxSnapshots = 65536;
inline constexpr uint64_t kMaxSnapshotTableBytes = uint64_t{64} << 20;
inline constexpr uint32_t kMaxSnapshotExtra = 1024;
inline constexpr uint32_t kMaxBitmaps = 65535;
inline constexpr uint64_t kMaxBitmapDirectoryBytes = uint64_t{64} << 20;
inline constexpr uint32_t kMaxBitmapName = 1023;
inline constexpr unsigned kMinBitmapGranularity = 9;  // as powers of two
inline constexpr unsigned kMaxBitmapGranularity = 31;
inline constexpr uint64_t kMaxBitmapBytes = uint64_t{512} << 20;
inline constexpr uint32_t kMaxBackingName = 1023;

}  // namespace calf::qcow2::format
