// Comparison: holds the refcounts in the file against the references that a census counted, and
// puts refcounts right where they stand. The second half of check.
#pragma once

#include <unordered_map>
#include <vector>

#include "block/qcow2/census.h"

namespace calf::qcow2 {

class Comparison {
 public:
  Comparison(Image::State& state, Census& census, CheckResult& result, const FindingSink& sink,
             Deadline deadline = {});

  // Reports every cluster whose refcount is wrong, ascending, and writes those counts that `repair`
  // allows; not synced. Leaked clusters give their space back to the host. References learn what
  // the refcounts are now.
  Async<> run(Repair repair);
  // A used cluster counts as free: whatever else was allocated there meanwhile, the refcount
  // structure cannot be believed.
  bool needs_rebuild() const { return needs_rebuild_; }

 private:
  // A refcount block with the counts of the clusters from `first` to `end`.
  struct Block {
    uint64_t offset;
    uint64_t first;
    uint64_t end;
  };

  Async<> compare_block(Block block, Repair repair);
  bool agrees(const References::Page* page, const uint8_t* block, uint64_t index) const;
  void note_used(const References::Page* page, uint64_t first);
  Result<void> compare_free(uint64_t first, uint64_t end);
  void add_cluster(std::vector<ByteRange>& ranges, uint64_t cluster) const;
  void cannot_read(Block block, uint64_t index);
  bool note(uint64_t cluster, uint64_t refcount, uint32_t references, Repair repair);
  bool may_read_again(uint64_t offset);

  Image::State& state_;
  Geometry g_;
  References& references_;
  CheckResult& result_;
  const FindingSink& sink_;
  Deadline deadline_;
  uint64_t file_clusters_;
  // Numbers of the pages of references, ascending.
  std::vector<uint64_t> pages_;
  TablesInTurn blocks_;
  bool needs_rebuild_ = false;
  // Blocks that several table entries share are read a few times only, unreadable clusters listed
  // up to a number.
  std::unordered_map<uint64_t, unsigned> reads_;
  uint64_t unreadable_left_ = 65536;
};

}  // namespace calf::qcow2
