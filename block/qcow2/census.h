// Census: walks every table of an image and counts all references. The first half of check.
#pragma once

#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "block/qcow2/check.h"
#include "block/qcow2/image_state.h"
#include "block/qcow2/references.h"
#include "block/qcow2/snapshot_table.h"

namespace calf::qcow2 {

class Census {
 public:
  Census(Image::State& state, CheckResult& result, const FindingSink& sink)
      : state_(state), g_(state.geometry()), result_(result), sink_(sink) {}

  Async<> run();

  References& references() { return references_; }
  // Refcount blocks (indexes into the refcount table) whose place makes them unusable.
  const std::unordered_set<uint64_t>& bad_blocks() const { return bad_blocks_; }
  bool needs_rebuild() const { return !bad_blocks_.empty(); }

  template <class... Args>
  void corruption(fmt::format_string<Args...> format, Args&&... args) {
    ++result_.corruptions;
    sink_(fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  // How often an L2 table is pointed to, by the active L1 table and by all.
  struct TableUse {
    uint64_t active = 0;
    uint64_t total = 0;
  };

  void count_region(uint64_t offset, uint64_t length, uint64_t times);
  // The same for a table of many clusters; true if it has content to be read.
  Async<bool> count_large_table(ByteRange range, uint64_t times);
  Async<> count_l1(uint64_t offset, uint64_t entries, bool active, uint64_t times);
  Async<> count_snapshots();
  Async<> count_l2_tables();
  void count_l2_table(const std::vector<be64>& words, TableUse use);
  void count_compressed(RawL2Entry raw, const L2Entry& entry, uint64_t index, TableUse use);
  // False if the entry breaks the format.
  bool examine_entry(RawL2Entry raw, const L2Entry& entry);
  void count_refcount_blocks();
  Async<> count_bitmaps();

  Image::State& state_;
  Geometry g_;
  CheckResult& result_;
  const FindingSink& sink_;
  References references_;
  std::unordered_map<uint64_t, TableUse> tables_;
  std::vector<uint64_t> table_order_;
  std::unordered_set<uint64_t> bad_blocks_;
  // Clusters counted for tables that stand in holes of the file.
  uint64_t hole_clusters_ = 0;
};

// True if the file has a hole there, so that everything reads as zeroes: hostile tables that claim
// terabytes cost one question each.
Async<bool> is_hole(HostFile& file, ByteRange range);

}  // namespace calf::qcow2
