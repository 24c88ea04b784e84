// L1Table: the first level of the mapping, whole in memory (at most 32 MiB).
//
// Changes stay in memory until WriteBack collects them: an entry may reach the file only after the
// L2 table that it points to.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "block/qcow2/host_file.h"
#include "block/qcow2/l2_entry.h"

namespace calf::qcow2 {

class L1Table {
 public:
  struct Write {
    uint64_t offset;
    std::vector<uint8_t> bytes;
    uint64_t block;
  };

  // Reads `entries` entries at `offset`; both were checked against the limits.
  Async<> load(HostFile& file, uint64_t offset, uint64_t entries);

  uint64_t offset() const { return offset_; }
  uint64_t size() const { return entries_.size(); }
  uint64_t size_bytes() const { return entries_.size() * 8; }
  L1Entry get(uint64_t index) const { return L1Entry::decode(entries_[index]); }
  uint64_t raw(uint64_t index) const { return entries_[index]; }
  const std::vector<uint64_t>& entries() const { return entries_; }
  void set(uint64_t index, L1Entry entry) {
    entries_[index] = entry.encode();
    dirty_.insert(index / kBlockEntries);
    verified_[index] = false;
  }

  // The entry's COPIED flag was held against the refcount: its table may be written in place.
  bool verified(uint64_t index) const { return verified_[index]; }
  void set_verified(uint64_t index) { verified_[index] = true; }

  bool dirty() const { return !dirty_.empty(); }
  // Copies of the changed pieces, for where the table stands now; clean from now on.
  std::vector<Write> collect();
  void restore(const std::vector<Write>& writes);

  // The whole table as bytes, with room for `entries` entries.
  std::vector<uint8_t> to_bytes(uint64_t entries) const;
  // The table now stands at `offset` and has `entries` entries (not fewer). Everything is dirty.
  void move_to(uint64_t offset, uint64_t entries);
  // Another table takes its place: it stands in the file at `offset` as given here.
  void replace(uint64_t offset, std::vector<uint64_t> entries);

 private:
  // Pieces of 512 bytes: a sector is written whole or not at all.
  static constexpr uint64_t kBlockEntries = 64;

  uint64_t offset_ = 0;
  std::vector<uint64_t> entries_;
  std::vector<bool> verified_;
  std::set<uint64_t> dirty_;
};

}  // namespace calf::qcow2
