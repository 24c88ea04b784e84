#include "block/qcow2/l2_entry.h"

#include <algorithm>
#include <cassert>

namespace calf::qcow2 {

L2Entry L2Entry::decode_compressed(RawL2Entry raw, const Geometry& g) {
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
