// Mapping: from guest clusters to L2 entries and back into the tables. It answers "where" and never
// moves guest data.
//
// A view is a pinned slice of an L2 table: entries are decoded from it and replaced in it without
// waiting, so what a request decided stays decided until it commits. Who replaces entries holds the
// guest clusters exclusively (Image's RangeLock).
//
//     guest offset ──> L1 entry ──> L2 slice ──> entry
//                         │
//                 writable_view(): makes the table if there is none, copies it if it is shared
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_set>

#include "block/qcow2/allocator.h"
#include "block/qcow2/l1.h"
#include "block/qcow2/table_cache.h"

namespace calf::qcow2 {

// Some entries of one L2 table, from the one of a given guest offset on.
struct L2View {
  SliceRef slice;          // empty: there is no table, so all entries are unallocated
  uint64_t first = 0;      // index in the slice
  uint64_t count = 0;      // entries from there to the end of the slice
  uint64_t l2_index = 0;   // index in the table, for messages
  uint64_t l2_offset = 0;  // of the table
  uint64_t guest = 0;      // guest offset of the first entry's cluster
};

class Mapping {
 public:
  Mapping(Executor& executor, HostFile& file, const Geometry& geometry, uint64_t cache_bytes,
          Refcounts& refcounts, Allocator& allocator, MetadataMap& map, Health& health);

  L1Table& l1() { return l1_; }
  TableCache& cache() { return cache_; }
  L2Entry entry(const L2View& view, uint64_t i) const;

  // Without waiting; nothing if the slice is not in memory.
  std::optional<L2View> find(uint64_t guest);
  Async<L2View> view(uint64_t guest);
  // A view whose entries may be replaced.
  Async<L2View> writable_view(uint64_t guest);

  // Where the L2 tables that do not exist, the one of `guest` and those behind it, end; `end` at
  // most. All of it is unallocated.
  uint64_t end_without_table(uint64_t guest, uint64_t end) const;
  // How many entries from `i` to the end of the view have neither a host cluster nor compressed
  // data.
  uint64_t run_without_cluster(const L2View& view, uint64_t i) const;

  // Replaces an entry of a writable view. What it pointed to is the caller's to free.
  void set(const L2View& view, uint64_t i, const L2Entry& entry);
  // The same for `count` entries, whose clusters hold data and follow each other from `offset` on.
  void set_data(const L2View& view, uint64_t i, uint64_t count, uint64_t offset);

  // True if the host cluster of entry `i` belongs to this entry alone and holds no metadata, so
  // data may be written there. The COPIED flag is believed only after its refcount was read.
  Async<bool> may_overwrite(const L2View& view, uint64_t i);
  // The same without waiting: nothing if it was not asked before.
  bool known_overwritable(const L2View& view, uint64_t i) const {
    const std::vector<bool>& verified = view.slice->verified;
    return !verified.empty() && verified[view.first + i];
  }

  // The error for an entry that breaks the format.
  Error invalid_entry(const L2View& view, uint64_t i, bool fatal);

  // Tables made since the last collect: nothing in the file points to them.
  std::unordered_set<uint64_t> take_unpublished() { return std::exchange(unpublished_, {}); }

 private:
  RawL2Entry raw(const L2View& view, uint64_t i) const {
    return view.slice ? load_l2_entry(view.slice.words(), view.first + i, geometry_) : RawL2Entry{};
  }
  std::vector<bool>& verified(const L2View& view) const;
  L2View locate(uint64_t guest, uint64_t l2_offset) const;
  uint64_t slice_offset(const L2View& view) const;
  Result<void> check_table(uint64_t l1_index, L1Entry entry) const;
  Async<> make_writable(uint64_t l1_index);
  Async<> add_table(uint64_t l1_index);
  Async<> copy_table(uint64_t l1_index, uint64_t old_offset);
  void publish(uint64_t l1_index, uint64_t offset);

  HostFile& file_;
  Geometry geometry_;
  Refcounts& refcounts_;
  Allocator& allocator_;
  MetadataMap& map_;
  Health& health_;
  L1Table l1_;
  TableCache cache_;
  AsyncMutex table_mutex_;
  std::unordered_set<uint64_t> unpublished_;
};

}  // namespace calf::qcow2
