// Going back to a snapshot, and looking at one; see snapshot.cpp.
#include <algorithm>

#include "block/qcow2/reference_tree.h"
#include "block/qcow2/snapshot.h"
#include "block/qcow2/snapshot_steps.h"

namespace calf::qcow2 {
namespace {

// Another L1 table and disk size for the image, durable at `place`.
void adopt_l1(Image::State& state, ByteRange place, std::vector<uint64_t> l1, uint64_t size) {
  Parts& parts = *state.parts;
  L1Table& active = parts.mapping.l1();
  for (uint64_t raw : active.entries()) {
    if (L1Entry entry = L1Entry::decode(raw); entry.offset != 0)
      parts.map.remove_table(Area::kActiveL2, entry.offset);
  }
  parts.map.remove_area(Area::kActiveL1, active.offset());
  parts.map.add_area(Area::kActiveL1, place);
  parts.map.seal();
  for (uint64_t raw : l1) {
    if (L1Entry entry = L1Entry::decode(raw); entry.offset != 0)
      parts.map.add_table(Area::kActiveL2, entry.offset);
  }
  active.replace(place.offset, std::move(l1));
  parts.mapping.cache().drop_all();
  state.size = size;
}

// Everything of apply up to the switch: where the new L1 table stands. On error nothing is left of
// it in memory.
Async<ByteRange> prepare_apply(Image::State& state, const std::vector<uint64_t>& l1) {
  Parts& parts = *state.parts;
  CO_TRY_VOID(co_await add_references(state, l1));
  Result<ByteRange> place = co_await store_table(state, to_bytes(l1), "L1 table");
  if (place.ok()) {
    Result<void> flushed = co_await parts.write_back.flush();
    if (flushed.ok()) co_return place;
    co_await parts.allocator.undo(*place);
    place = std::move(flushed.error());
  }
  co_await undo_references(state, l1);
  co_return place;
}

// The switch of apply, and what follows it.
Async<> change_over(Image::State& state, ByteRange place, std::vector<uint64_t> l1, uint64_t size) {
  Parts& parts = *state.parts;
  const std::vector<uint64_t> old = parts.mapping.l1().entries();
  const ByteRange old_place{parts.mapping.l1().offset(), parts.mapping.l1().size_bytes()};
  {
    AsyncMutex::Guard guard = co_await parts.order.lock();
    const uint64_t entries = l1.size();
    std::function<void(Header&)> change = [place, entries, size](Header& header) {
      header.l1_offset = place.offset;
      header.l1_entries = static_cast<uint32_t>(entries);
      header.size = size;
    };
    CO_TRY_VOID(co_await switch_header(state, change));
    adopt_l1(state, place, std::move(l1), size);
  }
  Result<void> dropped = co_await drop_references(state, old, true);
  if (!old_place.empty()) parts.allocator.free_later(old_place, false);
  // Nothing points there any more: what could not be dropped leaks.
  if (!dropped.ok()) state.health.say("qcow2: " + dropped.error().message());
  CO_TRY_VOID(co_await parts.write_back.flush());
  co_return co_await refresh_copied(state);
}

}  // namespace

Async<> apply_snapshot(Image::State& state, size_t index) {
  CO_TRY_VOID(check_snapshots_supported(state));
  Parts& parts = *state.parts;
  RangeLock::Holder hold(parts.clusters, kWholeDisk, RangeLock::Mode::kExclusive);
  co_await hold.acquire();
  const SnapshotInfo& snapshot = state.snapshots[index];
  CO_TRY(uint64_t size, disk_size(state, snapshot));
  CO_TRY(std::vector<uint64_t> l1, co_await load_l1(state, snapshot));
  CO_TRY_VOID(co_await parts.write_back.flush());
  CO_TRY_VOID(co_await check_tree(state, l1));
  for (uint64_t& raw : l1)
    raw &= ~format::kCopied;
  l1.resize(std::max<uint64_t>({l1.size(), state.geometry().l1_entries_for(size), 1}));

  // As far as bitmaps go, everything has changed afterwards.
  CO_TRY_VOID(co_await state.bitmaps.before_replace());
  CO_TRY_VOID(co_await parts.write_back.unsettle());
  Result<ByteRange> place = co_await prepare_apply(state, l1);
  if (!place.ok()) {
    Result<void> failed = std::move(place.error());
    co_return co_await finish(state, std::move(failed), true);
  }
  Result<void> done = co_await change_over(state, *place, std::move(l1), size);
  state.bitmaps.replaced(state.size);
  co_return co_await finish(state, std::move(done), false);
}

Async<> show_snapshot(Image::State& state, size_t index) {
  const SnapshotInfo& snapshot = state.snapshots[index];
  CO_TRY(uint64_t size, disk_size(state, snapshot));
  CO_TRY(std::vector<uint64_t> l1, co_await load_l1(state, snapshot));
  l1.resize(std::max<uint64_t>(l1.size(), state.geometry().l1_entries_for(size)));
  state.parts->mapping.l1().replace(snapshot.l1_offset, std::move(l1));
  state.size = size;
  co_return Result<void>();
}

}  // namespace calf::qcow2
