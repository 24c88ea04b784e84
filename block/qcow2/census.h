// Census: walks every table of an image and counts all references. The first half of check.
//
// The tables are walked twice. First only to learn how often each L2 table is pointed to, as a
// table that is shared by many snapshots is to be read once and its entries count that often. Then
// in the order in which findings are told: the active L1 table with its L2 tables, the snapshots'
// tables, the refcount table, bitmaps, refcount blocks.
#pragma once

#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "block/qcow2/bitmap_directory.h"
#include "block/qcow2/check.h"
#include "block/qcow2/image_state.h"
#include "block/qcow2/references.h"
#include "block/qcow2/snapshot_table.h"

namespace calf::qcow2 {

// True if the file has a hole there, so that everything reads as zeroes: hostile tables that claim
// terabytes cost one question each.
Async<bool> is_hole(HostFile& file, ByteRange range);

// Reads table after table. As a question costs more than to read a table, it is asked behind a
// table that turned out to be empty only.
class TablesInTurn {
 public:
  explicit TablesInTurn(HostFile& file) : file_(file) {}
  // False: nothing but zeroes, `bytes` may not have been read.
  Async<bool> read(uint64_t offset, std::span<uint8_t> bytes);

 private:
  HostFile& file_;
  bool last_was_empty_ = false;
};

class Census {
 public:
  // `repair`: entries that can be put right without losing anything are, as they are met.
  Census(Image::State& state, CheckResult& result, const FindingSink& sink, bool repair,
         Deadline deadline = {})
      : state_(state),
        g_(state.geometry()),
        result_(result),
        sink_(sink),
        repair_(repair),
        deadline_(deadline),
        references_(g_.max_refcount(), g_.clusters_for(state.file.size())),
        l2_tables_(state.file) {}

  Async<> run();

  References& references() { return references_; }
  // The refcount structure breaks its own format: counts cannot be put right in place.
  bool needs_rebuild() const { return needs_rebuild_; }

 private:
  // How often an L2 table is pointed to, by the active L1 table and by all.
  struct TableUse {
    uint64_t active = 0;
    uint64_t total = 0;
    bool walked = false;
  };
  // An L1 table, and how many snapshots have it.
  struct L1Place {
    uint64_t offset;
    uint64_t entries;
    uint64_t times;
    bool active;
  };

  template <class... Args>
  void corruption(fmt::format_string<Args...> format, Args&&... args) {
    ++result_.corruptions;
    sink_(fmt::format(format, std::forward<Args>(args)...));
  }

  void count_region(uint64_t offset, uint64_t length, uint64_t times);
  void overflow(uint64_t cluster, uint64_t times);
  // The same for a table of many clusters; true if it has content to be read.
  Async<bool> count_large_table(ByteRange range, uint64_t times);
  // The entries that are in the file; nothing of a table in a hole.
  Async<std::vector<be64>> read_l1(L1Place place);

  // The active one first, then the snapshots'.
  std::vector<L1Place> find_l1_tables();
  bool check_snapshot(const SnapshotInfo& snapshot);
  Async<> learn_uses(L1Place place);
  Async<> walk_l1(L1Place place);
  Async<> walk_l2(uint64_t offset, TableUse use);
  uint64_t plain_run(std::span<const be64> words) const;
  void count_run(uint64_t descriptor, uint64_t clusters, TableUse use, uint64_t* next_contiguous);
  // Tells what is wrong with an entry. False: it is to be replaced by zeroed().
  bool examine_entry(RawL2Entry raw, const L2Entry& entry);
  RawL2Entry zeroed(RawL2Entry raw) const;
  void count_compressed(RawL2Entry raw, const L2Entry& entry, uint64_t index, TableUse use);
  void count_cluster(const L2Entry& entry, TableUse use, uint64_t* next_contiguous);
  Async<> count_bitmaps();
  Async<> count_refcount_blocks();
  Async<> count_refcount_block(uint64_t index);
  // True if the file now reaches that far.
  Async<bool> lengthen_file(uint64_t end);
  Async<> count_bitmap(const BitmapEntry& bitmap);

  Image::State& state_;
  Geometry g_;
  CheckResult& result_;
  const FindingSink& sink_;
  bool repair_;
  Deadline deadline_;
  bool needs_rebuild_ = false;
  References references_;
  std::unordered_map<uint64_t, TableUse> tables_;
  TablesInTurn l2_tables_;
  // The L2 table that is walked now.
  std::vector<be64> l2_words_;
  // Clusters counted for tables that stand in holes of the file.
  uint64_t hole_clusters_ = 0;
};

}  // namespace calf::qcow2
