// The snapshot table, read and written: for info, check, the overlap check and the snapshot
// operations.
#pragma once

#include <vector>

#include "block/qcow2/header.h"
#include "block/qcow2/host_file.h"

namespace calf::qcow2 {

// Entries have any length, so the table's end is known only after its last entry.
struct SnapshotTable {
  std::vector<SnapshotInfo> entries;
  uint64_t bytes = 0;
};
// Nothing in an entry is trusted: lengths are held against the limits and the file. Where a
// snapshot's L1 table stands is not checked here.
Async<SnapshotTable> read_snapshot_table(HostFile& file, const Header& header);

// The table as bytes; every entry gets the extra data of version 3. An error if it would exceed the
// limits of the format.
Result<std::vector<uint8_t>> serialize_snapshot_table(const std::vector<SnapshotInfo>& entries);

}  // namespace calf::qcow2
