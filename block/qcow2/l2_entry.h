// An L2 entry, decoded once. The order of the tests matters: the compressed flag comes first, as
// bit 0 belongs to the offset of a compressed cluster and is the zero flag of any other.
#pragma once

#include <cstdint>

#include "block/qcow2/geometry.h"

namespace calf::qcow2 {

enum class ClusterKind : uint8_t {
  kUnallocated,  // the backing node answers
  kZeroPlain,    // reads as zeroes, no space
  kZeroAlloc,    // reads as zeroes, space reserved at `offset`
  kData,
  kCompressed,
  kInvalid,  // breaks the format: unaligned, beyond 2^56, reserved bits
};

struct L2Entry {
  ClusterKind kind = ClusterKind::kUnallocated;
  // The refcount is exactly one, so data may be overwritten in place.
  bool copied = false;
  // Host offset: of the cluster, or of the first compressed byte.
  uint64_t offset = 0;
  // Upper bound of the compressed bytes: to the end of the last sector that they touch.
  uint64_t compressed_length = 0;

  bool has_cluster() const { return kind == ClusterKind::kZeroAlloc || kind == ClusterKind::kData; }
  bool reads_zero() const {
    return kind == ClusterKind::kZeroPlain || kind == ClusterKind::kZeroAlloc;
  }

  static L2Entry decode(uint64_t raw, const Geometry& geometry);
  uint64_t encode(const Geometry& geometry) const;

  static L2Entry data(uint64_t offset) { return {ClusterKind::kData, true, offset, 0}; }
  static L2Entry zero() { return {ClusterKind::kZeroPlain, false, 0, 0}; }
  static L2Entry zero_alloc(uint64_t offset) { return {ClusterKind::kZeroAlloc, true, offset, 0}; }
  static L2Entry compressed(uint64_t offset, uint64_t length) {
    return {ClusterKind::kCompressed, false, offset, length};
  }
  // Host clusters (first, count) that a data or compressed entry refers to.
  ByteRange host_range(const Geometry& geometry) const;
};

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
