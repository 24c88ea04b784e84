// Geometry: the arithmetic of one image. Cluster numbers, table indexes and bounds follow from
// cluster_bits and refcount_order; all of it is shifts.
//
//     guest offset   [ L1 index | L2 index | subcluster | offset in subcluster ]
//     host cluster   [ refcount table index | index in block ]
//
// A cluster has 32 subclusters with extended L2 entries (16 bytes each), else one: itself.
#pragma once

#include <cstdint>

#include "block/base/byte_range.h"
#include "block/qcow2/format.h"

namespace calf::qcow2 {

struct Geometry {
  unsigned version = 3;
  unsigned cluster_bits = 16;
  unsigned refcount_order = 4;
  bool extended_l2 = false;
  // Guest data is in a file of its own, at the guest's offsets.
  bool external_data = false;

  uint64_t cluster_size() const { return uint64_t{1} << cluster_bits; }
  uint64_t in_cluster(uint64_t offset) const { return offset & (cluster_size() - 1); }
  uint64_t cluster_start(uint64_t offset) const { return offset & ~(cluster_size() - 1); }
  uint64_t cluster_index(uint64_t offset) const { return offset >> cluster_bits; }
  uint64_t clusters_for(uint64_t bytes) const { return div_round_up(bytes, cluster_size()); }
  bool is_cluster_aligned(uint64_t offset) const { return in_cluster(offset) == 0; }

  // Entries of an L2 table, which fills one cluster.
  unsigned l2_entry_bits() const { return extended_l2 ? 4 : 3; }
  unsigned l2_bits() const { return cluster_bits - l2_entry_bits(); }
  uint64_t l2_entries() const { return uint64_t{1} << l2_bits(); }
  // Guest bytes under one L1 entry.
  uint64_t l2_coverage() const { return uint64_t{1} << (cluster_bits + l2_bits()); }
  uint64_t l1_index(uint64_t guest) const { return guest >> (cluster_bits + l2_bits()); }
  uint64_t l2_index(uint64_t guest) const { return (guest >> cluster_bits) & (l2_entries() - 1); }
  uint64_t l1_entries_for(uint64_t size) const { return div_round_up(size, l2_coverage()); }

  unsigned subclusters() const { return extended_l2 ? 32 : 1; }
  unsigned subcluster_bits() const { return extended_l2 ? cluster_bits - 5 : cluster_bits; }
  uint64_t subcluster_size() const { return uint64_t{1} << subcluster_bits(); }
  // Of the subcluster in its cluster.
  unsigned subcluster_index(uint64_t offset) const {
    return static_cast<unsigned>(in_cluster(offset) >> subcluster_bits());
  }

  unsigned refcount_bits() const { return 1u << refcount_order; }
  uint64_t max_refcount() const {
    return refcount_order == 6 ? UINT64_MAX : (uint64_t{1} << refcount_bits()) - 1;
  }
  // Counts in one refcount block, which fills one cluster.
  unsigned refcount_block_bits() const { return cluster_bits + 3 - refcount_order; }
  uint64_t refcounts_per_block() const { return uint64_t{1} << refcount_block_bits(); }

  // Compressed entries: the bits below this hold the host offset, the ones above (up to 61) the
  // number of further sectors.
  unsigned compressed_offset_bits() const { return 62 - (cluster_bits - 8); }

  // The piece of a metadata table that is cached and written as one.
  uint64_t slice_size() const { return cluster_size() < 4096 ? cluster_size() : 4096; }
  // Of an L2 table: its entries, and the guest bytes under them.
  uint64_t l2_slice_entries() const { return slice_size() >> l2_entry_bits(); }
  uint64_t l2_slice_coverage() const { return l2_slice_entries() << cluster_bits; }
};

}  // namespace calf::qcow2
