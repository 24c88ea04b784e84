#include "block/qcow2/snapshot_steps.h"

#include <algorithm>
#include <cerrno>

namespace calf::qcow2 {
namespace {

// The header may be in the file though its write failed: only after the old one has been written
// once more, durably, may what it does not point to be used for something else.
Async<> restore_header(Image::State& state) {
  std::function<void(Header&)> nothing = [](Header&) {};
  CO_TRY_VOID(co_await state.header.update(nothing));
  co_return co_await state.file.flush();
}

}  // namespace

std::vector<uint8_t> to_bytes(const std::vector<uint64_t>& entries) {
  std::vector<be64> raw(entries.begin(), entries.end());
  auto* bytes = reinterpret_cast<const uint8_t*>(raw.data());
  return {bytes, bytes + raw.size() * sizeof(be64)};
}

Async<ByteRange> store_table(Image::State& state, std::vector<uint8_t> bytes,
                             std::string_view what) {
  const Geometry& g = state.geometry();
  Allocator& allocator = state.parts->allocator;
  const uint64_t clusters = std::max<uint64_t>(g.clusters_for(bytes.size()), 1);
  CO_TRY(uint64_t offset, co_await allocator.allocate_contiguous(clusters, what));
  ByteRange place{offset, clusters << g.cluster_bits};
  bytes.resize(place.length);
  Result<void> written = co_await state.file.write_bytes(offset, bytes);
  if (!written.ok()) {
    co_await allocator.undo(place);
    co_return std::move(written.error());
  }
  co_return place;
}

Async<std::vector<uint64_t>> load_l1(Image::State& state, const SnapshotInfo& snapshot) {
  const Geometry& g = state.geometry();
  if (snapshot.l1_entries > format::kMaxL1Bytes / 8) {
    co_return Error(ErrorKind::kCorrupt, EFBIG, "Snapshot L1 table too large");
  }
  const uint64_t length = uint64_t{snapshot.l1_entries} * 8;
  const uint64_t end = align_up(state.file.size(), g.cluster_size());
  bool placed = g.is_cluster_aligned(snapshot.l1_offset) && snapshot.l1_offset <= end &&
                length <= end - snapshot.l1_offset;
  if (!placed || (length != 0 && snapshot.l1_offset == 0)) {
    co_return make_error(ErrorKind::kInvalid, "Snapshot L1 table offset invalid");
  }
  std::vector<be64> raw(snapshot.l1_entries);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(raw.data()), length);
  CO_TRY_VOID(co_await state.file.read_bytes(snapshot.l1_offset, bytes));
  co_return std::vector<uint64_t>(raw.begin(), raw.end());
}

ByteRange l1_range(const SnapshotInfo& snapshot) {
  return {snapshot.l1_offset, uint64_t{snapshot.l1_entries} * 8};
}

Result<uint64_t> disk_size(const Image::State& state, const SnapshotInfo& snapshot) {
  if (!is_aligned(snapshot.disk_size, 512) || snapshot.disk_size > INT64_MAX ||
      state.geometry().l1_entries_for(snapshot.disk_size) > format::kMaxL1Bytes / 8) {
    return make_error(ErrorKind::kInvalid, "Snapshot disk size {} invalid", snapshot.disk_size);
  }
  return snapshot.disk_size;
}

Result<void> check_snapshots_supported(const Image::State& state) {
  if (state.header.get().has(format::kExternalData)) {
    return make_error(ErrorKind::kUnsupported,
                      "Images with an external data file have no internal snapshots");
  }
  return {};
}

Async<> switch_header(Image::State& state, std::function<void(Header&)> change) {
  Result<void> done = co_await state.header.update(change);
  if (done.ok()) done = co_await state.file.flush();
  if (!done.ok()) {
    Result<void> restored = co_await restore_header(state);
    if (!restored.ok()) state.health.say("qcow2: " + restored.error().message());
  }
  co_return done;
}

Async<> finish(Image::State& state, Result<void> done, bool undone) {
  if (!done.ok() && !undone) co_return done;
  Result<void> settled = co_await state.parts->write_back.settle();
  if (!done.ok()) co_return done;
  co_return settled;
}

}  // namespace calf::qcow2
