#include "block/qcow2/l2_entry.h"

#include <algorithm>
#include <cassert>

namespace calf::qcow2 {
namespace {

L2Entry decode_compressed(RawL2Entry raw, const Geometry& g) {
  unsigned bits = g.compressed_offset_bits();
  L2Entry entry;
  entry.copied = (raw.descriptor & format::kCopied) != 0;
  entry.kind = ClusterKind::kCompressed;
  entry.offset = raw.descriptor & ((uint64_t{1} << bits) - 1);
  uint64_t more_sectors = (raw.descriptor & ~(format::kCopied | format::kCompressed)) >> bits;
  entry.compressed_length = (more_sectors + 1) * 512 - (entry.offset & 511);
  if (entry.offset >= format::kMaxHostOffset || g.external_data) {
    entry.kind = ClusterKind::kInvalid;
  }
  return entry;
}

// The kind that all subclusters share.
ClusterKind kind_of(const L2Entry& entry) {
  const bool placed = entry.placed;
  if (entry.zero_mask == L2Entry::kAll) {
    return placed ? ClusterKind::kZeroAlloc : ClusterKind::kZeroPlain;
  }
  if (entry.data_mask == L2Entry::kAll) return ClusterKind::kData;
  if (!placed && entry.zero_mask == 0) return ClusterKind::kUnallocated;
  return ClusterKind::kMixed;
}

}  // namespace

RawL2Entry load_l2_entry(const be64* words, uint64_t index, const Geometry& g) {
  if (!g.extended_l2) return {words[index], 0};
  return {words[2 * index], words[2 * index + 1]};
}

void store_l2_entry(be64* words, uint64_t index, RawL2Entry raw, const Geometry& g) {
  if (!g.extended_l2) {
    words[index] = raw.descriptor;
    return;
  }
  words[2 * index] = raw.descriptor;
  words[2 * index + 1] = raw.subclusters;
}

ClusterKind L2Entry::part(unsigned subcluster) const {
  if (kind != ClusterKind::kMixed) return kind;
  uint32_t bit = uint32_t{1} << subcluster;
  if ((zero_mask & bit) != 0) return placed ? ClusterKind::kZeroAlloc : ClusterKind::kZeroPlain;
  return (data_mask & bit) != 0 ? ClusterKind::kData : ClusterKind::kUnallocated;
}

unsigned L2Entry::run(unsigned subcluster, unsigned count) const {
  if (kind != ClusterKind::kMixed) return count - subcluster;
  const ClusterKind first = part(subcluster);
  unsigned end = subcluster + 1;
  while (end < count && part(end) == first)
    ++end;
  return end - subcluster;
}

L2Entry L2Entry::at(uint64_t offset, bool placed, uint32_t data_mask, uint32_t zero_mask) {
  L2Entry entry;
  entry.copied = placed;
  entry.placed = placed;
  entry.offset = placed ? offset : 0;
  entry.data_mask = data_mask;
  entry.zero_mask = zero_mask;
  entry.kind = kind_of(entry);
  return entry;
}

L2Entry L2Entry::decode(RawL2Entry raw, const Geometry& g) {
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
  entry.kind = kind_of(entry);
  const bool sane = g.is_cluster_aligned(entry.offset) &&
                    (entry.data_mask & entry.zero_mask) == 0 &&
                    (entry.placed || entry.data_mask == 0);
  if (!sane) entry.kind = ClusterKind::kInvalid;
  return entry;
}

RawL2Entry L2Entry::encode(const Geometry& g) const {
  if (kind == ClusterKind::kInvalid) return {};
  if (kind == ClusterKind::kCompressed) {
    uint64_t more_sectors = ((offset + compressed_length - 1) >> 9) - (offset >> 9);
    return {offset | (more_sectors << g.compressed_offset_bits()) | format::kCompressed, 0};
  }
  RawL2Entry raw;
  if (placed) raw.descriptor = offset | (copied ? format::kCopied : 0);
  if (g.extended_l2) {
    raw.subclusters = (uint64_t{zero_mask} << 32) | data_mask;
  } else {
    assert(kind != ClusterKind::kMixed);
    if (zero_mask != 0) raw.descriptor |= format::kZero;
  }
  return raw;
}

ByteRange L2Entry::host_range(const Geometry& g) const {
  uint64_t length = kind == ClusterKind::kCompressed ? compressed_length : g.cluster_size();
  uint64_t start = g.cluster_start(offset);
  return {start, align_up(offset + length, g.cluster_size()) - start};
}

uint32_t subcluster_mask(const Geometry& g, uint64_t offset, uint64_t length) {
  if (!g.extended_l2) return L2Entry::kAll;
  const unsigned first = g.subcluster_index(offset);
  const unsigned last = g.subcluster_index(offset + length - 1);
  return (L2Entry::kAll >> (31 - last)) & (L2Entry::kAll << first);
}

}  // namespace calf::qcow2
