// Steps that the snapshot operations share (snapshot.cpp, snapshot_apply.cpp). Internal to
// block/qcow2.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "block/qcow2/image_state.h"

namespace calf::qcow2 {

// A table as bytes of the file.
std::vector<uint8_t> to_bytes(const std::vector<uint64_t>& entries);

// Puts a table into clusters of its own, filled up with zeroes. Not synced.
Async<ByteRange> store_table(Image::State& state, std::vector<uint8_t> bytes,
                             std::string_view what);

// The L1 table of a snapshot, held against the limits first.
Async<std::vector<uint64_t>> load_l1(Image::State& state, const SnapshotInfo& snapshot);
// Where it stands.
ByteRange l1_range(const SnapshotInfo& snapshot);
// The size of the disk in a snapshot, if an image can have it.
Result<uint64_t> disk_size(const Image::State& state, const SnapshotInfo& snapshot);

// Can the image have snapshots at all?
Result<void> check_snapshots_supported(const Image::State& state);

// Switches the header, durably. On error the old one counts, in memory and (as far as the host
// lets us) in the file.
Async<> switch_header(Image::State& state, std::function<void(Header&)> change);

// Ends an operation that began with WriteBack::unsettle(), with `done` as its outcome. `undone`: an
// operation that failed left nothing behind; else the image stays unsettled, and the next open
// counts again.
Async<> finish(Image::State& state, Result<void> done, bool undone);

}  // namespace calf::qcow2
