// The tree of references that hangs on one L1 table:
//
//     L1 table ──> L2 tables ──> data clusters, compressed clusters
//
// Each snapshot has such a tree, the disk itself another; what is in several of them is counted
// once for each. Taking a snapshot adds one reference to everything in a tree, removing one drops
// it.
//
// A tree may come from a hostile file: each L2 table is read once, holes are not read at all, so
// time follows the allocated bytes.
//
// Spec: QEMU docs/interop/qcow2, "Refcounts", "Snapshots".
#pragma once

#include <cstdint>
#include <unordered_set>
#include <vector>

#include "block/qcow2/image_state.h"

namespace calf::qcow2 {

// One L2 table and what it refers to.
struct TableReferences {
  uint64_t table = 0;
  // Clusters with data or reserved space; neighbours are joined.
  std::vector<ByteRange> clusters;
  // Bytes of compressed clusters.
  std::vector<ByteRange> compressed;
};

class TreeWalk {
 public:
  // `l1` as in the file, in host byte order; outlives the walk. The L2 tables are read from the
  // file: nothing of them is dirty in memory.
  TreeWalk(Image::State& state, const std::vector<uint64_t>& l1) : state_(state), l1_(l1) {}

  // The next table; false at the end. An error for entries that break the format.
  Async<bool> next(TableReferences* out);

 private:
  Async<> read_table(TableReferences* out);

  Image::State& state_;
  const std::vector<uint64_t>& l1_;
  size_t index_ = 0;
  std::unordered_set<uint64_t> seen_;
  // The L2 table at hand.
  std::vector<be64> words_;
};

// Is every entry sound, everything in use by the refcounts, nothing of it metadata of another kind?
// What is not is refused before anything is changed.
Async<> check_tree(Image::State& state, const std::vector<uint64_t>& l1);

// One more reference on everything in the tree; on error on nothing. In memory: WriteBack writes
// it.
Async<> add_references(Image::State& state, const std::vector<uint64_t>& l1);
// Takes back what add_references() did, when nothing in the file relies on it yet.
Task<void> undo_references(Image::State& state, const std::vector<uint64_t>& l1);
// One reference less on everything in the tree: the last pointer to it is gone, durably. The
// refcounts drop with the WriteBack runs that follow.
Async<> drop_references(Image::State& state, const std::vector<uint64_t>& l1, bool punch);

// Sets the COPIED flags of the active tables to what the refcounts say. In memory.
Async<> refresh_copied(Image::State& state);

}  // namespace calf::qcow2
