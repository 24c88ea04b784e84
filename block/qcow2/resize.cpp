// Changing the size of the disk, and mapping clusters ahead of their use.
#include <algorithm>

#include "block/qcow2/image_state.h"
#include "block/qcow2/reference_tree.h"

namespace calf::qcow2 {
namespace {

// Copies the L1 table, with room for `entries` entries, to `offset` and points the header there.
Async<> switch_l1(Image::State& state, uint64_t entries, uint64_t offset) {
  Parts& parts = *state.parts;
  L1Table& l1 = parts.mapping.l1();
  const Geometry& g = state.geometry();
  AsyncMutex::Guard guard = co_await parts.order.lock();
  std::vector<uint8_t> table = l1.to_bytes(entries);
  table.resize(g.clusters_for(entries * 8) << g.cluster_bits);
  // Entries that changed since the flush are taken over by the next one.
  CO_TRY_VOID(co_await state.file.write_bytes(offset, table));
  CO_TRY_VOID(co_await state.file.flush());
  std::function<void(Header&)> change = [=](Header& header) {
    header.l1_offset = offset;
    header.l1_entries = static_cast<uint32_t>(entries);
  };
  CO_TRY_VOID(co_await state.header.update(change));
  const ByteRange old{l1.offset(), l1.size_bytes()};
  l1.move_to(offset, entries);
  parts.map.remove_area(Area::kActiveL1, old.offset);
  parts.map.add_area(Area::kActiveL1, {offset, entries * 8});
  parts.map.seal();
  if (!old.empty()) parts.allocator.free_later(old, false);
  co_return Result<void>();
}

// The header may point to the new table though its write failed: only after the old header has been
// written once more, durably, may the new table's clusters be used for something else.
Task<void> undo_switch(Image::State& state, ByteRange table) {
  std::function<void(Header&)> nothing = [](Header&) {};
  Result<void> done = co_await state.header.update(nothing);
  if (done.ok()) done = co_await state.file.flush();
  if (done.ok()) co_await state.parts->allocator.undo(table);
}

// Gives the disk room for `entries` L1 entries. The new table is complete and durable before the
// header points to it, so a crash leaves one of the two.
Async<> grow_l1(Image::State& state, uint64_t entries) {
  Parts& parts = *state.parts;
  L1Table& l1 = parts.mapping.l1();
  const Geometry& g = state.geometry();
  if (entries <= l1.size()) co_return Result<void>();
  const uint64_t bytes = entries * 8;
  if (bytes > format::kMaxL1Bytes) {
    co_return make_error(ErrorKind::kNoSpace, "Image is too big");
  }
  CO_TRY(uint64_t offset,
         co_await parts.allocator.allocate_contiguous(g.clusters_for(bytes), "L1 table"));
  // Its clusters' refcounts, and what its entries point to, come before the table.
  Result<void> flushed = co_await parts.write_back.flush();
  if (!flushed.ok()) {
    co_await parts.allocator.undo({offset, bytes});
    co_return flushed;
  }
  Result<void> switched = co_await switch_l1(state, entries, offset);
  if (!switched.ok()) {
    co_await undo_switch(state, {offset, bytes});
    co_return switched;
  }
  co_return co_await parts.write_back.flush();
}

Async<> set_size(Image::State& state, uint64_t size) {
  std::function<void(Header&)> change = [=](Header& header) { header.size = size; };
  CO_TRY_VOID(co_await state.header.update(change));
  CO_TRY_VOID(co_await state.file.flush());
  state.size = size;
  co_return Result<void>();
}

Async<> clear_new_clusters(Image::State& state, ByteRange range, bool may_unmap) {
  if (state.geometry().external_data) range = range.intersect({0, state.size});
  return state.data().write_zeroes(range, may_unmap);
}

// Zeroes in the file are not zeroes of an encrypted disk. Version 3 says so in the entry.
bool needs_encrypted_zeroes(const Image::State& state) {
  return state.guest_data.encrypted() && state.geometry().version < 3;
}

Async<> write_encrypted_zeroes(Image::State& state, uint64_t guest, ByteRange host) {
  std::vector<uint8_t> zeroes(state.geometry().cluster_size());
  FlatIo io(std::span<const uint8_t>{zeroes});
  for (uint64_t at = 0; at < host.length; at += zeroes.size())
    CO_TRY_VOID(co_await state.guest_data.write(guest + at, host.offset + at, io.slice()));
  co_return Result<void>();
}

// The entry of a cluster that was `old` and now has its place, where an entry is more than a place.
L2Entry preallocated(const Image::State& state, const L2Entry& old, uint64_t place) {
  // Subclusters wait for their first write, as the backing node may have something there.
  if (state.geometry().extended_l2) return L2Entry::at(place, true, 0, old.zero_mask);
  return needs_encrypted_zeroes(state) ? L2Entry::data(place) : L2Entry::zero_alloc(place);
}

// The clusters of the entries from `i` on have their places now.
void set_preallocated(const Image::State& state, const L2View& view, uint64_t i, ByteRange places) {
  const Geometry& g = state.geometry();
  Mapping& mapping = state.parts->mapping;
  const uint64_t count = places.length >> g.cluster_bits;
  if (!g.extended_l2 && !state.guest_data.encrypted()) {
    mapping.set_data(view, i, count, places.offset);
    return;
  }
  for (uint64_t k = 0; k < count; ++k, ++i) {
    const L2Entry old = mapping.entry(view, i);
    mapping.set(view, i, preallocated(state, old, places.offset + (k << g.cluster_bits)));
  }
}

// Maps every cluster of `range` that has none. `reserve`: places that the file has already get
// space, too.
Async<> map_all(Image::State& state, ByteRange range, bool reserve) {
  const Geometry& g = state.geometry();
  Parts& parts = *state.parts;
  for (uint64_t at = g.cluster_start(range.offset); at < range.end();) {
    CO_TRY_VOID(co_await parts.write_back.before_change());
    CO_TRY(L2View view, co_await parts.mapping.writable_view(at));
    uint64_t count = std::min(g.clusters_for(range.end() - at), view.count);
    uint64_t i = 0;
    while (i < count) {
      uint64_t n = std::min(parts.mapping.run_without_cluster(view, i), count - i);
      if (n == 0) {
        ++i;
        continue;
      }
      const uint64_t guest = at + (i << g.cluster_bits);
      CO_TRY(Allocator::Allocation made, co_await allocate_data(state, guest, n));
      if (needs_encrypted_zeroes(state)) {
        CO_TRY_VOID(co_await write_encrypted_zeroes(state, guest, made.range));
      } else if (!made.fresh && (reserve || !g.extended_l2)) {
        // Subclusters of new clusters are not looked at before they are written.
        CO_TRY_VOID(co_await clear_new_clusters(state, made.range, !reserve));
      }
      n = made.range.length >> g.cluster_bits;
      set_preallocated(state, view, i, made.range);
      i += n;
    }
    at += count << g.cluster_bits;
  }
  co_return Result<void>();
}

// The data file is as long as the disk. (A device stays as it is.)
Async<> size_data_file(Image::State& state, uint64_t size, block::Preallocation preallocation) {
  if (!state.data_file || state.data_file->size() == size) co_return Result<void>();
  if (preallocation == block::Preallocation::kMetadata) preallocation = block::Preallocation::kOff;
  co_return co_await state.data_file->node().truncate(size, preallocation);
}

// Takes the clusters of `range` (whole clusters, not inside the disk) out of the mapping. Tables
// that are shared with a snapshot are copied first.
Async<> unmap_all(Image::State& state, ByteRange range) {
  const Geometry& g = state.geometry();
  Parts& parts = *state.parts;
  range = range.intersect({0, parts.mapping.l1().size() * g.l2_coverage()});
  for (uint64_t at = range.offset; at < range.end();) {
    CO_TRY(L2View view, co_await parts.mapping.view(at));
    if (!view.slice) {
      at = align_down(at, g.l2_coverage()) + g.l2_coverage();
      continue;
    }
    const uint64_t count = std::min(g.clusters_for(range.end() - at), view.count);
    CO_TRY_VOID(co_await parts.write_back.before_change());
    CO_TRY(view, co_await parts.mapping.writable_view(at));
    for (uint64_t i = 0; i < count; ++i) {
      L2Entry old = parts.mapping.entry(view, i);
      if (old.kind == ClusterKind::kInvalid) co_return parts.mapping.invalid_entry(view, i, true);
      if (old.kind == ClusterKind::kUnallocated) continue;
      parts.mapping.set(view, i, L2Entry{});
      release(state, old, true);
    }
    at += count << g.cluster_bits;
  }
  co_return Result<void>();
}

// The same for all L2 tables from L1 entry `first` on; they go, too.
Async<> drop_tables(Image::State& state, uint64_t first) {
  const Geometry& g = state.geometry();
  Parts& parts = *state.parts;
  L1Table& l1 = parts.mapping.l1();
  CO_TRY_VOID(co_await parts.write_back.flush());
  std::vector<uint64_t> gone = l1.entries();
  std::fill_n(gone.begin(), std::min<uint64_t>(first, gone.size()), 0);
  CO_TRY_VOID(co_await check_tree(state, gone));
  for (uint64_t i = first; i < l1.size(); ++i) {
    const uint64_t table = L1Entry::decode(gone[i]).offset;
    if (gone[i] == 0) continue;
    parts.map.remove_table(Area::kActiveL2, table);
    parts.mapping.cache().drop({table, g.cluster_size()});
    l1.set(i, L1Entry{});
  }
  CO_TRY_VOID(co_await parts.write_back.flush());
  co_return co_await drop_references(state, gone, true);
}

Async<> grow(Image::State& state, uint64_t size, block::Preallocation preallocation) {
  const Geometry& g = state.geometry();
  const uint64_t old_size = state.size;
  CO_TRY_VOID(co_await state.parts->write_back.before_change());
  CO_TRY_VOID(co_await grow_l1(state, g.l1_entries_for(size)));
  // What the old end hid reads as zeroes: the rest of its last cluster, what is mapped behind it
  // (the state of a machine that came with a snapshot, what a shrink that was cut short left), and
  // what a longer backing node has there. The new size becomes visible to this code first, to the
  // file only after that is durable.
  state.size = size;
  const uint64_t tail = std::min(align_up(old_size, g.cluster_size()), size);
  Result<void> done;
  if (tail > old_size) {
    ByteRange rest{old_size, tail - old_size};
    done = co_await zero_guest(state, rest, false);
  }
  if (done.ok() && tail < size) {
    ByteRange behind{tail, align_up(size, g.cluster_size()) - tail};
    done = co_await unmap_all(state, behind);
  }
  const uint64_t hidden = std::min(state.backing_size(), size);
  if (done.ok() && hidden > tail) {
    ByteRange rest{tail, hidden - tail};
    done = co_await zero_guest(state, rest, true);
  }
  // A data file that is to stay a raw disk has its clusters mapped, all of them.
  if (preallocation == block::Preallocation::kOff && state.data_is_raw()) {
    preallocation = block::Preallocation::kMetadata;
  }
  if (done.ok()) done = co_await size_data_file(state, size, preallocation);
  if (done.ok() && preallocation != block::Preallocation::kOff) {
    ByteRange added{old_size, size - old_size};
    done = co_await preallocate(state, added, preallocation);
  }
  if (done.ok()) done = co_await state.parts->write_back.flush();
  if (done.ok()) done = co_await set_size(state, size);
  if (!done.ok()) state.size = old_size;
  co_return done;
}

// The size first: a crash leaves mapped clusters behind the end, which a later growth clears.
Async<> shrink(Image::State& state, uint64_t size) {
  const Geometry& g = state.geometry();
  CO_TRY_VOID(co_await set_size(state, size));
  const uint64_t first = align_up(size, g.cluster_size());
  const uint64_t tables = g.l1_entries_for(first);
  ByteRange part{first, tables * g.l2_coverage() - first};
  CO_TRY_VOID(co_await unmap_all(state, part));
  CO_TRY_VOID(co_await drop_tables(state, tables));
  CO_TRY_VOID(co_await cut_file(state));
  co_return co_await size_data_file(state, size, block::Preallocation::kOff);
}

}  // namespace

Async<> preallocate(Image::State& state, ByteRange range, block::Preallocation preallocation) {
  const Geometry& g = state.geometry();
  // So that the clusters mapped next are known to be new.
  CO_TRY_VOID(co_await size_data_file(state, range.end(), preallocation));
  const bool reserve = preallocation != block::Preallocation::kMetadata;
  CO_TRY_VOID(co_await map_all(state, range, reserve));
  if (g.external_data) co_return Result<void>();
  // The mapped clusters lie behind what was the end of the file; the tables between them are
  // still in memory.
  uint64_t end = state.parts->allocator.end_of_use();
  if (end > state.file.size()) {
    block::Preallocation how = preallocation == block::Preallocation::kMetadata
                                   ? block::Preallocation::kOff
                                   : preallocation;
    CO_TRY_VOID(co_await state.file.node().truncate(align_up(end, g.cluster_size()), how));
    state.file.raise_high_water(end);
  }
  co_return Result<void>();
}

Async<> resize(Image::State& state, uint64_t size, block::Preallocation preallocation) {
  if (!is_aligned(size, 512)) {
    co_return make_error(ErrorKind::kInvalid, "The new size must be a multiple of 512");
  }
  if (size == state.size) co_return Result<void>();
  if (!state.snapshots.empty() && state.geometry().version < 3) {
    co_return make_error(ErrorKind::kUnsupported, "Can't resize a v2 image which has snapshots");
  }
  if (size < state.size && preallocation != block::Preallocation::kOff) {
    co_return make_error(ErrorKind::kInvalid, "Preallocation can't be used for shrinking an image");
  }
  CO_TRY_VOID(co_await state.bitmaps.before_resize());
  Result<void> done;
  if (size > state.size) {
    done = co_await grow(state, size, preallocation);
  } else {
    done = co_await shrink(state, size);
  }
  state.bitmaps.resize(state.size);
  co_return done;
}

}  // namespace calf::qcow2
