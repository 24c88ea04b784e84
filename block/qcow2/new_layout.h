// NewLayout: where everything stands in a file that is being made.
//
//     | header | refcount table … | refcount blocks … | L1 table … | LUKS header … |
//     | L2 tables … | guest data … |        (both only if the disk is mapped from the start)
//
// Everything is in whole clusters and in one piece; without what follows it, the L1 table ends
// behind its last entry.
#pragma once

#include <cstdint>

#include "block/qcow2/create.h"
#include "block/qcow2/geometry.h"
#include "block/qcow2/header.h"

namespace calf::qcow2 {

struct NewLayout {
  Geometry geometry;
  // Counts of clusters.
  uint64_t table_clusters = 1;
  uint64_t blocks = 1;
  uint64_t l1_entries = 0;
  uint64_t luks_bytes = 0;
  uint64_t l2_tables = 0;
  // Clusters of the disk that are mapped, and how many of them stand in this file: all or none.
  uint64_t mapped_clusters = 0;
  uint64_t data_clusters = 0;

  ByteRange refcount_table() const { return clusters(1, table_clusters); }
  ByteRange refcount_blocks() const { return clusters(1 + table_clusters, blocks); }
  ByteRange l1_table() const { return {refcount_blocks().end(), l1_entries * 8}; }
  ByteRange luks_header() const { return {behind(l1_table()), luks_bytes}; }
  ByteRange l2() const { return {behind(luks_header()), l2_tables << geometry.cluster_bits}; }
  uint64_t data() const { return l2().end(); }
  // Clusters of the file.
  uint64_t total() const { return geometry.cluster_index(data()) + data_clusters; }

 private:
  ByteRange clusters(uint64_t first, uint64_t count) const {
    return {first << geometry.cluster_bits, count << geometry.cluster_bits};
  }
  uint64_t behind(ByteRange range) const { return align_up(range.end(), geometry.cluster_size()); }
};

// For valid options. `mapped`: with L2 tables and clusters for the whole disk.
NewLayout lay_out(const CreateOptions& options, bool mapped);

// The geometry that the options ask for, valid or not.
Geometry geometry_of(const CreateOptions& options);

Header make_header(const CreateOptions& options, const NewLayout& layout);

}  // namespace calf::qcow2
