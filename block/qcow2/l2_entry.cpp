#include "block/qcow2/l2_entry.h"

namespace calf::qcow2 {

L2Entry L2Entry::decode(uint64_t raw, const Geometry& g) {
  L2Entry entry;
  entry.copied = (raw & format::kCopied) != 0;
  if ((raw & format::kCompressed) != 0) {
    unsigned bits = g.compressed_offset_bits();
    entry.kind = ClusterKind::kCompressed;
    entry.offset = raw & ((uint64_t{1} << bits) - 1);
    uint64_t more_sectors = (raw & ~(format::kCopied | format::kCompressed)) >> bits;
    entry.compressed_length = (more_sectors + 1) * 512 - (entry.offset & 511);
    if (entry.offset >= format::kMaxHostOffset) entry.kind = ClusterKind::kInvalid;
    return entry;
  }
  entry.offset = raw & format::kOffsetMask;
  // Version 2 has no zero flag: bit 0 is reserved there.
  bool zero = g.version >= 3 && (raw & format::kZero) != 0;
  if (!g.is_cluster_aligned(entry.offset)) {
    entry.kind = ClusterKind::kInvalid;
  } else if (zero) {
    entry.kind = entry.offset != 0 ? ClusterKind::kZeroAlloc : ClusterKind::kZeroPlain;
  } else {
    entry.kind = entry.offset != 0 ? ClusterKind::kData : ClusterKind::kUnallocated;
  }
  return entry;
}

uint64_t L2Entry::encode(const Geometry& g) const {
  uint64_t flag = copied ? format::kCopied : 0;
  switch (kind) {
    case ClusterKind::kUnallocated:
    case ClusterKind::kInvalid:
      return 0;
    case ClusterKind::kZeroPlain:
      return format::kZero;
    case ClusterKind::kZeroAlloc:
      return offset | format::kZero | flag;
    case ClusterKind::kData:
      return offset | flag;
    case ClusterKind::kCompressed: {
      uint64_t more_sectors = ((offset + compressed_length - 1) >> 9) - (offset >> 9);
      return offset | (more_sectors << g.compressed_offset_bits()) | format::kCompressed;
    }
  }
  return 0;
}

ByteRange L2Entry::host_range(const Geometry& g) const {
  uint64_t length = kind == ClusterKind::kCompressed ? compressed_length : g.cluster_size();
  uint64_t start = g.cluster_start(offset);
  return {start, align_up(offset + length, g.cluster_size()) - start};
}

}  // namespace calf::qcow2
