// The snapshot table, read and written: for info, check, the overlap check and the snapshot
// operations.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "block/qcow2/header.h"
#include "block/qcow2/host_file.h"

namespace calf::qcow2 {

// Entries have any length, so the table's end is known only after its last entry.
struct SnapshotTable {
  std::vector<SnapshotInfo> entries;
  uint64_t bytes = 0;
  // The part of it before a length that was repaired; what is behind may be somebody else's, too.
  uint64_t sure_bytes = 0;
  // Entries without the extra data that version 3 wants.
  std::vector<size_t> incomplete;
};

// For a repair: what makes a table unreadable is dropped, with a line to `sink`.
struct SnapshotTableRepair {
  std::function<void(std::string_view line)> sink;
  uint64_t dropped_entries = 0;
  uint64_t dropped_extra_data = 0;
};

// Nothing in an entry is trusted: lengths are held against the limits and the file. Where a
// snapshot's L1 table stands is not checked here. `repair` may be null.
Async<SnapshotTable> read_snapshot_table(HostFile& file, const Header& header,
                                         SnapshotTableRepair* repair = nullptr);

// The table as bytes; every entry gets the extra data of version 3. An error if it would exceed the
// limits of the format.
Result<std::vector<uint8_t>> serialize_snapshot_table(const std::vector<SnapshotInfo>& entries);

}  // namespace calf::qcow2
