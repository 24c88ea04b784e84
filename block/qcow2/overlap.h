// MetadataMap: which host clusters hold metadata, for the check before every write.
//
// Few large areas (header, L1 tables, refcount table, snapshot table, bitmap directory) are kept as
// sorted ranges; L2 tables and refcount blocks, of which there are many, in a hash by cluster. Data
// goes only to clusters that are in neither, a table only to clusters that are of its own kind.
// Size follows the tables that the file really has.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "block/qcow2/geometry.h"

namespace calf::qcow2 {

enum class Area : uint16_t {
  kHeader = 1 << 0,
  kActiveL1 = 1 << 1,
  kActiveL2 = 1 << 2,
  kRefcountTable = 1 << 3,
  kRefcountBlock = 1 << 4,
  kSnapshotTable = 1 << 5,
  kInactiveL1 = 1 << 6,
  kBitmapDirectory = 1 << 7,
  kEncryptionHeader = 1 << 8,
};

// The words of qemu-img for the lowest area in `mask`.
std::string_view area_name(uint16_t mask);

class MetadataMap {
 public:
  explicit MetadataMap(const Geometry& geometry) : geometry_(geometry) {}

  // Large areas; `range` in bytes. seal() after the last change, before the first question.
  void add_area(Area area, ByteRange range);
  void remove_area(Area area, uint64_t offset);
  void seal();

  // One-cluster tables.
  void add_table(Area area, uint64_t offset);
  void remove_table(Area area, uint64_t offset);

  // The areas that `range` (bytes) touches, those in `except` left out; 0 if none.
  uint16_t find(ByteRange range, uint16_t except = 0) const;
  bool is_table(Area area, uint64_t offset) const;

 private:
  struct Named {
    Area area;
    ByteRange clusters;
  };
  // Disjoint pieces between the borders of all areas.
  struct Piece {
    uint64_t end;
    uint16_t mask;
  };

  ByteRange to_clusters(ByteRange bytes) const;

  Geometry geometry_;
  std::vector<Named> areas_;
  std::vector<std::pair<uint64_t, Piece>> pieces_;  // sorted by first cluster
  std::unordered_map<uint64_t, uint16_t> tables_;
  // No table stands from this cluster on: what is new at the end of the file is told apart at once.
  uint64_t tables_end_ = 0;
};

}  // namespace calf::qcow2
