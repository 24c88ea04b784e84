// A snapshot is an entry in the snapshot table and an L1 table of its own; what hangs on that table
// is shared with the disk until one of them is written.
//
//     header ──> snapshot table ──> L1 table ──┐
//        └─────> active L1 table ──────────────┴──> L2 tables ──> clusters     refcount 2
//
// Each operation makes the new tables beside the old ones, durable, and switches with one write of
// the header, which lies in one sector. References are added before the switch and dropped after
// it, so what a crash leaves is the state before or the state after, and leaked clusters at worst:
//
//     create   L1 copy, references + 1, snapshot table │ switch │ old snapshot table freed
//     apply    L1 copy, references + 1                 │ switch │ old tree - 1, old L1 freed
//     delete   snapshot table                          │ switch │ its tree - 1, L1, old table freed
//
// COPIED flags change together with refcounts, but stand elsewhere: WriteBack::unsettle().
//
// The state of a running machine, if QEMU saved one, stands behind the disk's end, under the same
// L1 table; no operation here looks at it, and all of them keep it.
#include "block/qcow2/snapshot.h"

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "block/qcow2/reference_tree.h"
#include "block/qcow2/snapshot_steps.h"
#include "block/qcow2/snapshot_table.h"

namespace calf::qcow2 {
namespace {

// QEMU's buffers hold this much of a name.
constexpr size_t kMaxNameLength = 255;

// A new snapshot table that nothing points to yet. It and everything before it is durable.
struct PreparedTable {
  std::vector<SnapshotInfo> list;
  ByteRange place;
  uint64_t length = 0;
};

Async<PreparedTable> prepare_table(Image::State& state, std::vector<SnapshotInfo> list) {
  Parts& parts = *state.parts;
  PreparedTable table;
  CO_TRY(std::vector<uint8_t> bytes, serialize_snapshot_table(list));
  table.length = bytes.size();
  if (!list.empty()) {
    CO_TRY(table.place, co_await store_table(state, std::move(bytes), "snapshot table"));
  }
  table.list = std::move(list);
  Result<void> done = co_await parts.write_back.flush();
  if (!done.ok()) {
    if (!table.place.empty()) co_await parts.allocator.undo(table.place);
    co_return std::move(done.error());
  }
  co_return table;
}

// On error the new table leaks: it may be what the header in the file points to.
Async<> switch_table(Image::State& state, PreparedTable table) {
  Parts& parts = *state.parts;
  const ByteRange old{state.header.get().snapshots_offset,
                      state.snapshots.empty() ? 0 : state.snapshot_table_bytes};
  const uint64_t offset = table.place.offset;
  const auto count = static_cast<uint32_t>(table.list.size());
  std::function<void(Header&)> change = [offset, count](Header& header) {
    header.snapshots_offset = offset;
    header.snapshot_count = count;
  };
  CO_TRY_VOID(co_await switch_header(state, change));
  state.snapshots = std::move(table.list);
  state.snapshot_table_bytes = table.length;
  parts.map.remove_area(Area::kSnapshotTable, old.offset);
  parts.map.add_area(Area::kSnapshotTable, {offset, table.length});
  parts.map.seal();
  if (!old.empty()) parts.allocator.free_later(old, false);
  co_return Result<void>();
}

// Everything of create up to the switch. On error nothing is left of it in memory; `undone` says if
// that is true of the COPIED flags, too. `l1` is the active table.
Async<PreparedTable> prepare_create(Image::State& state, SnapshotInfo entry,
                                    const std::vector<uint64_t>& l1, bool* undone) {
  Parts& parts = *state.parts;
  *undone = true;
  std::vector<uint64_t> copy = l1;
  for (uint64_t& raw : copy)
    raw &= ~format::kCopied;
  CO_TRY(ByteRange place, co_await store_table(state, to_bytes(copy), "L1 table"));
  entry.l1_offset = place.offset;
  entry.l1_entries = static_cast<uint32_t>(l1.size());
  Result<void> done = co_await add_references(state, l1);
  if (!done.ok()) {
    co_await parts.allocator.undo(place);
    co_return std::move(done.error());
  }
  std::vector<SnapshotInfo> list = state.snapshots;
  list.push_back(std::move(entry));
  Result<PreparedTable> table(PreparedTable{});
  done = co_await refresh_copied(state);
  if (done.ok()) {
    table = co_await prepare_table(state, std::move(list));
  } else {
    table = std::move(done.error());
  }
  if (!table.ok()) {
    co_await undo_references(state, l1);
    co_await parts.allocator.undo(place);
    Result<void> refreshed = co_await refresh_copied(state);
    *undone = refreshed.ok();
  }
  co_return table;
}

}  // namespace

std::optional<size_t> find_snapshot(const std::vector<SnapshotInfo>& list, const SnapshotKey& key) {
  auto fits = [&key](const SnapshotInfo& snapshot) {
    return (!key.id || *key.id == snapshot.id) && (!key.name || *key.name == snapshot.name);
  };
  auto it = std::find_if(list.begin(), list.end(), fits);
  if (it == list.end()) return std::nullopt;
  return static_cast<size_t>(it - list.begin());
}

std::optional<size_t> find_snapshot(const std::vector<SnapshotInfo>& list,
                                    const std::string& word) {
  std::optional<size_t> found = find_snapshot(list, SnapshotKey{word, std::nullopt});
  if (!found) found = find_snapshot(list, SnapshotKey{std::nullopt, word});
  return found;
}

std::string next_snapshot_id(const std::vector<SnapshotInfo>& list) {
  uint64_t largest = 0;
  for (const SnapshotInfo& snapshot : list) {
    uint64_t number = 0;
    const std::string& id = snapshot.id;
    std::from_chars(id.data(), id.data() + id.size(), number);
    largest = std::max(largest, number);
  }
  std::string next = std::to_string(largest + 1);
  // An image may hold the largest number there is.
  while (find_snapshot(list, SnapshotKey{next, std::nullopt}))
    next = std::to_string(++largest + 1);
  return next;
}

Async<> create_snapshot(Image::State& state, NewSnapshot wanted) {
  CO_TRY_VOID(check_snapshots_supported(state));
  if (wanted.name.size() > kMaxNameLength) {
    co_return make_error(ErrorKind::kInvalid, "The name of a snapshot has at most {} bytes",
                         kMaxNameLength);
  }
  if (state.snapshots.size() >= format::kMaxSnapshots) {
    co_return Error::from_errno(EFBIG, "The image has as many snapshots as it can hold");
  }
  Parts& parts = *state.parts;
  RangeLock::Holder hold(parts.clusters, kWholeDisk, RangeLock::Mode::kExclusive);
  co_await hold.acquire();
  CO_TRY_VOID(co_await parts.write_back.flush());
  const std::vector<uint64_t> l1 = parts.mapping.l1().entries();
  CO_TRY_VOID(co_await check_tree(state, l1));

  SnapshotInfo entry;
  entry.id = next_snapshot_id(state.snapshots);
  entry.name = std::move(wanted.name);
  entry.date_sec = wanted.date_sec;
  entry.date_nsec = wanted.date_nsec;
  // qemu-img writes 0 here, not "unknown".
  entry.icount = 0;
  entry.disk_size = state.size;
  CO_TRY_VOID(co_await parts.write_back.unsettle());
  bool undone = false;
  Result<PreparedTable> table = co_await prepare_create(state, std::move(entry), l1, &undone);
  if (!table.ok()) {
    Result<void> failed = std::move(table.error());
    co_return co_await finish(state, std::move(failed), undone);
  }
  const ByteRange copy = l1_range(table->list.back());
  Result<void> done = co_await switch_table(state, std::move(*table));
  if (done.ok()) {
    parts.map.add_area(Area::kInactiveL1, copy);
    parts.map.seal();
  }
  co_return co_await finish(state, std::move(done), false);
}

Async<> delete_snapshot(Image::State& state, size_t index) {
  CO_TRY_VOID(check_snapshots_supported(state));
  Parts& parts = *state.parts;
  RangeLock::Holder hold(parts.clusters, kWholeDisk, RangeLock::Mode::kExclusive);
  co_await hold.acquire();
  const SnapshotInfo snapshot = state.snapshots[index];
  CO_TRY(const std::vector<uint64_t> l1, co_await load_l1(state, snapshot));
  CO_TRY_VOID(co_await parts.write_back.flush());
  CO_TRY_VOID(co_await check_tree(state, l1));

  CO_TRY_VOID(co_await parts.write_back.unsettle());
  std::vector<SnapshotInfo> list = state.snapshots;
  list.erase(list.begin() + static_cast<ptrdiff_t>(index));
  Result<PreparedTable> table = co_await prepare_table(state, std::move(list));
  if (!table.ok()) {
    Result<void> failed = std::move(table.error());
    co_return co_await finish(state, std::move(failed), true);
  }
  Result<void> done = co_await switch_table(state, std::move(*table));
  if (done.ok()) {
    parts.map.remove_area(Area::kInactiveL1, snapshot.l1_offset);
    parts.map.seal();
    done = co_await drop_references(state, l1, true);
    if (snapshot.l1_entries != 0) parts.allocator.free_later(l1_range(snapshot), false);
    if (done.ok()) done = co_await parts.write_back.flush();
    if (done.ok()) done = co_await refresh_copied(state);
  }
  co_return co_await finish(state, std::move(done), false);
}

Async<> rewrite_snapshot_table(Image::State& state) {
  CO_TRY_VOID(co_await state.parts->write_back.before_change());
  CO_TRY(PreparedTable table, co_await prepare_table(state, state.snapshots));
  CO_TRY_VOID(co_await switch_table(state, std::move(table)));
  co_return co_await state.parts->write_back.finish();
}

}  // namespace calf::qcow2
