// Allocator: hands out host clusters and takes them back.
//
// First fit from a moving hint: every cluster below the hint is in use. What is handed out has
// refcount 1 in memory; it reaches the file before anything that points to it (WriteBack). What is
// freed goes a longer way, as a crash, or a write that overtakes, must never meet a cluster that
// somebody still points to:
//
//     free_later() ──> the pointer's removal is durable ──> host hole punched ──> refcount drops
//                       (WriteBack, then apply())                                 (may be reused)
//
// Compressed clusters are packed one after another, several to a host cluster, each adding one to
// its refcount.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "block/io/sync.h"
#include "block/qcow2/header_file.h"
#include "block/qcow2/health.h"
#include "block/qcow2/overlap.h"
#include "block/qcow2/refcount.h"

namespace calf::qcow2 {

class Allocator {
 public:
  struct Run {
    uint64_t first = 0;  // cluster number
    uint64_t count = 0;
  };
  struct Freed {
    ByteRange range;
    bool punch = false;
  };

  // `order` is WriteBack's lock: who holds it may write reference structures to the file.
  Allocator(Executor& executor, HostFile& file, HeaderFile& header, Refcounts& refcounts,
            MetadataMap& map, Health& health, AsyncMutex& order);

  struct Allocation {
    ByteRange range;
    // Nothing was ever written there or behind, so the range reads as zeroes.
    bool fresh = false;
  };

  // 1 to `max_clusters` contiguous clusters. `what` names their use in a message about damage
  // ("data cluster").
  Async<Allocation> allocate(uint64_t max_clusters, std::string_view what);
  // Exactly that many; the offset.
  Async<uint64_t> allocate_contiguous(uint64_t clusters, std::string_view what);
  // Room for `length` (at most a cluster's size less one) bytes of a compressed cluster.
  Async<uint64_t> allocate_bytes(uint64_t length);

  // One more reference on each cluster that the ranges touch, all of which are in use. `done`
  // counts the ranges: on error those before have it, the others have not. Both outlive the await.
  Async<> reference(std::span<const ByteRange> ranges, uint64_t* done);

  // Gives back what was allocated and never pointed to. What cannot be given back leaks.
  Task<void> undo(ByteRange clusters);
  // One reference less on each cluster that `range` touches, once the removal of the pointer that
  // the caller just changed in memory is durable. `punch`: the guest asked for the space back.
  void free_later(ByteRange range, bool punch);

  // For WriteBack: what was freed up to now.
  std::vector<Freed> take_freed() { return std::exchange(freed_, {}); }
  void restore_freed(std::vector<Freed> freed);
  // Second half of free_later(). `l2_cache` forgets clusters that are free now.
  Task<void> apply(std::vector<Freed> freed, TableCache& l2_cache);
  bool over_limit() const { return freed_.size() > 65536; }
  bool has_freed() const { return !freed_.empty(); }

  // Takes refcount blocks that count nothing (or only themselves) out of the refcount table. Their
  // clusters are free as far as memory knows; WriteBack tells the file.
  Async<> drop_empty_blocks();

  // Behind everything that was in the file at open or was handed out since.
  uint64_t end_of_use() const { return untouched_from_; }

  // A repair changed refcounts under us.
  void forget() {
    hint_ = 0;
    packed_ = 0;
    untouched_from_ = std::max(untouched_from_, align_up(file_.size(), geometry_.cluster_size()));
  }

 private:
  Async<Run> find_run(uint64_t from, uint64_t min, uint64_t max);
  Async<> cover(uint64_t cluster);
  Async<> cover_run(Run run);
  Async<> add_block(uint64_t table_index, uint64_t cluster);
  Async<> grow_table(uint64_t table_index);
  // The last word before clusters are used; remembers that they were.
  Result<void> check_fresh(Run run, std::string_view what);
  Async<Run> take(uint64_t min, uint64_t max, std::string_view what);
  Async<bool> counts_nothing(uint64_t table_index);
  Async<> drop_blocks(std::vector<uint64_t> table_indices);
  Async<> set_all(Run run, uint64_t value);
  // False: it cannot have another one.
  bool add_reference(const Refcounts::Place& at);
  Async<bool> add_reference(uint64_t cluster);
  Async<> reference_range(ByteRange range);
  // Takes one reference from `cluster`; true if it is free now.
  Async<bool> drop_reference(uint64_t cluster);

  HostFile& file_;
  HeaderFile& header_;
  Refcounts& refcounts_;
  MetadataMap& map_;
  Health& health_;
  AsyncMutex& order_;
  Geometry geometry_;
  AsyncMutex mutex_;
  // End of the file, or of everything ever handed out.
  uint64_t untouched_from_;
  // Cluster below which nothing is free.
  uint64_t hint_ = 0;
  // Where the next compressed byte goes; 0: nowhere yet.
  uint64_t packed_ = 0;
  std::vector<Freed> freed_;
};

}  // namespace calf::qcow2
