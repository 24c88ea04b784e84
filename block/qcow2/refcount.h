// Refcounts: how many references each host cluster has. 0 is free.
//
//     refcount table (in memory)   [ b0 | b1 | 0 | … ]
//                                    │
//     refcount block (one cluster)   [ n n n n … ]   1 to 64 bits each, through a TableCache
//
// A cluster whose block does not exist has refcount 0. Callers that change counts hold the
// allocator's lock; reading needs none.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

#include "block/qcow2/geometry.h"
#include "block/qcow2/health.h"
#include "block/qcow2/table_cache.h"

namespace calf::qcow2 {

// Entry `index` of a piece of a refcount block.
uint64_t get_count(const uint8_t* bytes, uint64_t index, unsigned order);
void set_count(uint8_t* bytes, uint64_t index, unsigned order, uint64_t value);
// True if the entries from `index` on are `expected`.
bool counts_equal(const uint8_t* bytes, uint64_t index, unsigned order,
                  std::span<const uint8_t> expected);
// `count` entries from `index` on become `value`.
void set_counts(uint8_t* bytes, uint64_t index, uint64_t count, unsigned order, uint64_t value);

class Refcounts {
 public:
  Refcounts(Executor& executor, HostFile& file, const Geometry& geometry, Health& health,
            uint64_t cache_bytes);

  Async<> load(uint64_t table_offset, uint64_t table_clusters);

  const Geometry& geometry() const { return geometry_; }
  TableCache& cache() { return cache_; }
  // Entries of the table, host byte order; 0 where there is no block.
  const std::vector<uint64_t>& table() const { return table_; }
  uint64_t table_offset() const { return table_offset_; }

  // True if `cluster` has a refcount block.
  bool covered(uint64_t cluster) const {
    uint64_t index = cluster >> geometry_.refcount_block_bits();
    return index < table_.size() && table_[index] != 0;
  }
  // The piece of a block that counts `cluster`, which is covered, and the cluster's index in it.
  struct Place {
    SliceRef slice;
    uint64_t index = 0;
  };
  uint64_t counts_per_slice() const { return cache_.slice_size() * 8 >> geometry_.refcount_order; }
  Async<Place> place(uint64_t cluster);
  // The same without waiting, for any cluster. Nothing if it is not in memory, or there is
  // something wrong with it that place() tells.
  std::optional<Place> find(uint64_t cluster);

  Async<uint64_t> get(uint64_t cluster);
  // `cluster` is covered.
  Async<> set(uint64_t cluster, uint64_t value);

  // A block that is new and in no table on disk yet: an empty one in memory at `offset`, linked in
  // the table in memory.
  void link_new_block(uint64_t table_index, uint64_t offset);

  // Two table entries share a block, so no count can be believed.
  void set_aliased() { aliased_ = true; }

  // A block that is in the table on disk no more.
  void drop_block(uint64_t table_index);

  // A block that is in the file, and in the table there.
  void adopt_block(uint64_t table_index, uint64_t offset) {
    table_[table_index] = offset;
    file_.raise_high_water(offset + geometry_.cluster_size());
  }

  // What WriteBack needs: blocks whose table entry is not in the file yet, and changed entries.
  struct TableEntryWrite {
    uint64_t index;
    uint64_t value;
  };
  bool has_unlinked() const { return !unlinked_.empty(); }
  bool is_unlinked(uint64_t block_offset) const { return unlinked_.contains(block_offset); }
  std::vector<TableEntryWrite> collect_links();
  void restore_links(const std::vector<TableEntryWrite>& links);

  // The table now stands elsewhere and is `clusters` long.
  void table_moved(uint64_t offset, uint64_t clusters);

 private:
  uint64_t slice_offset(uint64_t cluster) const;
  uint64_t index_in_slice(uint64_t cluster) const { return cluster & (counts_per_slice() - 1); }

  HostFile& file_;
  Geometry geometry_;
  Health& health_;
  TableCache cache_;
  uint64_t table_offset_ = 0;
  bool aliased_ = false;
  std::vector<uint64_t> table_;
  std::vector<TableEntryWrite> new_links_;
  std::unordered_set<uint64_t> unlinked_;
};

}  // namespace calf::qcow2
