// An L2 entry, decoded once.
//
//     in the table                               decoded
//     descriptor  | flags | host offset |   ──>  kind, copied, placed, offset
//     subclusters | zero 32 | data 32   |   ──>  data_mask, zero_mask
//       (extended entries only)
//
// Entries without subclusters are entries whose subclusters are all alike: the masks are all ones
// or zero then, so the code above knows one form only.
//
// The order of the tests matters: the compressed flag comes first, as bit 0 belongs to the offset
// of a compressed cluster and is the zero flag of any other.
#pragma once

#include <bit>
#include <cstdint>

#include "block/qcow2/geometry.h"

namespace calf::qcow2 {

// What becomes of a read: of a whole cluster, or of a subcluster.
enum class ClusterKind : uint8_t {
  kUnallocated,  // the backing node answers
  kZeroPlain,    // reads as zeroes, no space
  kZeroAlloc,    // reads as zeroes, space reserved at `offset`
  kData,
  kCompressed,
  kInvalid,  // breaks the format: unaligned, beyond 2^56, reserved bits
  kMixed,    // whole clusters only: ask the subclusters
};

// An entry as it stands in a table of 8-byte entries, or of 16-byte ones.
struct RawL2Entry {
  uint64_t descriptor = 0;
  uint64_t subclusters = 0;

  bool empty() const { return descriptor == 0 && subclusters == 0; }
  friend bool operator==(const RawL2Entry&, const RawL2Entry&) = default;
};

// Entry `index` of the table (or piece of one) that begins at `words`.
inline RawL2Entry load_l2_entry(const be64* words, uint64_t index, const Geometry& g) {
  if (!g.extended_l2) return {words[index], 0};
  return {words[2 * index], words[2 * index + 1]};
}

inline void store_l2_entry(be64* words, uint64_t index, RawL2Entry raw, const Geometry& g) {
  if (!g.extended_l2) {
    words[index] = raw.descriptor;
    return;
  }
  words[2 * index] = raw.descriptor;
  words[2 * index + 1] = raw.subclusters;
}

struct L2Entry {
  static constexpr uint32_t kAll = UINT32_MAX;

  ClusterKind kind = ClusterKind::kUnallocated;
  // The refcount is exactly one, so data may be overwritten in place.
  bool copied = false;
  // There is a host cluster, at `offset` (which may be 0 in an external data file).
  bool placed = false;
  // Host offset: of the cluster, or of the first compressed byte.
  uint64_t offset = 0;
  // Upper bound of the compressed bytes: to the end of the last sector that they touch.
  uint64_t compressed_length = 0;
  // Subclusters that stand in the host cluster, and that read as zeroes. What is in neither is
  // unallocated, even where there is a host cluster.
  uint32_t data_mask = 0;
  uint32_t zero_mask = 0;

  bool has_cluster() const { return placed; }
  bool reads_zero() const {
    return kind == ClusterKind::kZeroPlain || kind == ClusterKind::kZeroAlloc;
  }
  // Never kMixed.
  ClusterKind part(unsigned subcluster) const;
  // How many of the `count` subclusters of a cluster are of one kind, from `subcluster` on.
  unsigned run(unsigned subcluster, unsigned count) const;

  static L2Entry decode(RawL2Entry raw, const Geometry& geometry);
  RawL2Entry encode(const Geometry& geometry) const;

  static L2Entry data(uint64_t offset) { return at(offset, true, kAll, 0); }
  static L2Entry zero() { return at(0, false, 0, kAll); }
  static L2Entry zero_alloc(uint64_t offset) { return at(offset, true, 0, kAll); }
  static L2Entry compressed(uint64_t offset, uint64_t length) {
    L2Entry entry;
    entry.kind = ClusterKind::kCompressed;
    entry.offset = offset;
    entry.compressed_length = length;
    return entry;
  }
  // An ordinary cluster, this image's alone if it is placed. Entries without subclusters take masks
  // that are all ones or zero.
  static L2Entry at(uint64_t offset, bool placed, uint32_t data_mask, uint32_t zero_mask);

  // Host clusters (first, count) that a data or compressed entry refers to.
  ByteRange host_range(const Geometry& geometry) const;

 private:
  static L2Entry decode_compressed(RawL2Entry raw, const Geometry& geometry);
  // The kind that all subclusters share.
  ClusterKind common_kind() const;
};

// Inline: every request, and every walk over a table, decodes entries.
inline ClusterKind L2Entry::common_kind() const {
  if (zero_mask == kAll) {
    return placed ? ClusterKind::kZeroAlloc : ClusterKind::kZeroPlain;
  }
  if (data_mask == kAll) return ClusterKind::kData;
  if (!placed && zero_mask == 0) return ClusterKind::kUnallocated;
  return ClusterKind::kMixed;
}

inline ClusterKind L2Entry::part(unsigned subcluster) const {
  if (kind != ClusterKind::kMixed) return kind;
  uint32_t bit = uint32_t{1} << subcluster;
  if ((zero_mask & bit) != 0) return placed ? ClusterKind::kZeroAlloc : ClusterKind::kZeroPlain;
  return (data_mask & bit) != 0 ? ClusterKind::kData : ClusterKind::kUnallocated;
}

inline unsigned L2Entry::run(unsigned subcluster, unsigned count) const {
  if (kind != ClusterKind::kMixed) return count - subcluster;
  const ClusterKind first = part(subcluster);
  unsigned end = subcluster + 1;
  while (end < count && part(end) == first)
    ++end;
  return end - subcluster;
}

inline L2Entry L2Entry::at(uint64_t offset, bool placed, uint32_t data_mask, uint32_t zero_mask) {
  L2Entry entry;
  entry.copied = placed;
  entry.placed = placed;
  entry.offset = placed ? offset : 0;
  entry.data_mask = data_mask;
  entry.zero_mask = zero_mask;
  entry.kind = entry.common_kind();
  return entry;
}

inline L2Entry L2Entry::decode(RawL2Entry raw, const Geometry& g) {
  if ((raw.descriptor & format::kCompressed) != 0) return decode_compressed(raw, g);
  L2Entry entry;
  entry.copied = (raw.descriptor & format::kCopied) != 0;
  entry.offset = raw.descriptor & format::kOffsetMask;
  // Version 2 has no zero flag, extended entries have it per subcluster: bit 0 is reserved there.
  const bool zero = g.version >= 3 && !g.extended_l2 && (raw.descriptor & format::kZero) != 0;
  // Offset 0 is a place in an external data file, if the entry says that something is there.
  entry.placed = entry.offset != 0 || (g.external_data && entry.copied && !zero);
  if (g.extended_l2) {
    entry.data_mask = static_cast<uint32_t>(raw.subclusters);
    entry.zero_mask = static_cast<uint32_t>(raw.subclusters >> 32);
  } else {
    entry.data_mask = entry.placed && !zero ? kAll : 0;
    entry.zero_mask = zero ? kAll : 0;
  }
  entry.kind = entry.common_kind();
  const bool sane = g.is_cluster_aligned(entry.offset) &&
                    (entry.data_mask & entry.zero_mask) == 0 &&
                    (entry.placed || entry.data_mask == 0);
  if (!sane) entry.kind = ClusterKind::kInvalid;
  return entry;
}

// The subclusters that `length` > 0 bytes from `offset` on touch, all in one cluster.
uint32_t subcluster_mask(const Geometry& geometry, uint64_t offset, uint64_t length);

// An L1 entry: where the L2 table stands (0: none).
struct L1Entry {
  uint64_t offset = 0;
  bool copied = false;
  bool reserved_bits = false;

  static L1Entry decode(uint64_t raw) {
    return {raw & format::kOffsetMask, (raw & format::kCopied) != 0,
            (raw & format::kL1Reserved) != 0};
  }
  uint64_t encode() const { return offset | (copied ? format::kCopied : 0); }
};

}  // namespace calf::qcow2
