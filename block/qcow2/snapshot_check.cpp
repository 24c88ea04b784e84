#include "block/qcow2/snapshot_check.h"

#include "block/qcow2/snapshot.h"
#include "block/qcow2/snapshot_table.h"

namespace calf::qcow2 {
namespace {

// Entries beyond the limit of the format are given up before anything else is looked at.
Async<uint64_t> drop_overhanging(Image::State& state, bool repair, const FindingSink& sink) {
  const uint32_t count = state.header.get().snapshot_count;
  if (count <= format::kMaxSnapshots || !repair) co_return uint64_t{0};
  const uint32_t overhanging = count - format::kMaxSnapshots;
  sink(fmt::format("Discarding {} overhanging snapshots", overhanging));
  std::function<void(Header&)> change = [](Header& header) {
    header.snapshot_count = format::kMaxSnapshots;
  };
  CO_TRY_VOID(co_await state.header.update(change));
  co_return uint64_t{overhanging};
}

Result<void> validate(const Image::State& state) {
  const Header& header = state.header.get();
  // What lies behind the end of the file is met when it is read.
  Result<void> valid = validate_snapshot_table(header, format::kMaxHostOffset);
  if (valid.ok()) return valid;
  std::string text = "ERROR s" + valid.error().message().substr(1);
  if (header.snapshot_count > format::kMaxSnapshots) {
    text += fmt::format(
        "\nYou can force-remove all {} overhanging snapshots with qemu-img check -r all",
        header.snapshot_count - format::kMaxSnapshots);
  }
  return Error(ErrorKind::kCorrupt, valid.error().sys_errno(), std::move(text));
}

void protect(Image::State& state, uint64_t table_bytes) {
  MetadataMap& map = state.parts->map;
  map.add_area(Area::kSnapshotTable, {state.header.get().snapshots_offset, table_bytes});
  for (const SnapshotInfo& snapshot : state.snapshots) {
    const ByteRange l1{snapshot.l1_offset, uint64_t{snapshot.l1_entries} * 8};
    if (l1.offset < state.file.size() && l1.length <= format::kMaxL1Bytes) {
      map.add_area(Area::kInactiveL1, l1);
    }
  }
  map.seal();
}

}  // namespace

Async<> load_snapshots_for_check(Image::State& state, bool repair, CheckResult& result,
                                 const FindingSink& sink) {
  const bool known = !state.snapshots.empty();
  state.snapshots.clear();
  state.snapshot_table_bytes = 0;
  CO_TRY(uint64_t dropped, co_await drop_overhanging(state, repair, sink));
  CO_TRY_VOID(validate(state));
  SnapshotTableRepair policy;
  policy.sink = sink;
  SnapshotTableRepair* lenient = repair ? &policy : nullptr;
  Result<SnapshotTable> table =
      co_await read_snapshot_table(state.file, state.header.get(), lenient);
  if (!table.ok()) {
    Error error = std::move(table.error()).with_context("ERROR failed to read the snapshot table");
    co_return error;
  }
  dropped += policy.dropped_entries;
  // Entries that go need no new table, only a smaller number in the header.
  result.corruptions_fixed += dropped;
  result.corruptions += policy.dropped_extra_data;
  if (state.geometry().version >= 3) {
    for (size_t i : table->incomplete) {
      ++result.corruptions;
      sink(fmt::format("{} snapshot table entry {} is incomplete", repair ? "Repairing" : "ERROR",
                       i));
    }
  }
  state.snapshots = std::move(table->entries);
  state.snapshot_table_bytes = table->bytes;
  if (policy.dropped_entries != 0) {
    // Before the clusters of those that go are given back.
    const auto left = static_cast<uint32_t>(state.snapshots.size());
    std::function<void(Header&)> change = [left](Header& h) { h.snapshot_count = left; };
    CO_TRY_VOID(co_await state.header.update(change));
  }
  if (dropped != 0) CO_TRY_VOID(co_await state.file.flush());
  if (state.options.writable && !known) protect(state, table->sure_bytes);
  co_return Result<void>();
}

Async<> repair_snapshot_table(Image::State& state, CheckResult& result, const FindingSink& sink) {
  if (result.corruptions == 0) co_return Result<void>();
  Result<void> written = co_await rewrite_snapshot_table(state);
  if (!written.ok()) {
    ++result.check_errors;
    sink(fmt::format("ERROR failed to update snapshot table: {}", written.error().message()));
    co_return Result<void>();
  }
  result.corruptions_fixed += std::exchange(result.corruptions, 0);
  co_return Result<void>();
}

}  // namespace calf::qcow2
