// Writing. Each stretch of a request goes one of two ways:
//
//     in place    the clusters are this image's alone: shared hold, one write, no metadata
//     allocating  exclusive hold; new clusters, one write of head + data + tail, then the entries
//
// Nothing is changed in the mapping before the data is in the file, so a failure rolls back by
// giving the new clusters back.
#include <algorithm>

#include "block/qcow2/cow.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {
namespace {

constexpr size_t kMaxPieces = 16;

// True if the bytes of `range` (all in the cluster of `entry`) stand in a host cluster.
bool all_data(const Geometry& g, const L2Entry& entry, uint64_t offset, uint64_t length) {
  if (entry.kind == ClusterKind::kData) return true;
  if (entry.kind != ClusterKind::kMixed) return false;
  const uint32_t touched = subcluster_mask(g, offset, length);
  return (entry.data_mask & touched) == touched;
}

// Overwrites as much of [offset, …) as lies in clusters that may be overwritten and stand one after
// another; 0 if the first one may not. The caller holds the clusters shared.
Async<uint64_t> write_in_place(Image::State& state, uint64_t offset, IoSlice from) {
  const Geometry& g = state.geometry();
  Mapping& mapping = state.parts->mapping;
  L2View view;
  if (std::optional<L2View> cached = mapping.find(offset)) {
    view = std::move(*cached);
  } else {
    CO_TRY(view, co_await mapping.view(offset));
  }
  // A table that is shared must be copied first.
  if (!view.slice || !mapping.l1().verified(g.l1_index(offset))) co_return uint64_t{0};

  const L2Entry first = mapping.entry(view, 0);
  const uint64_t end = offset + from.size();
  uint64_t done = 0;
  uint64_t cluster_end = g.cluster_start(offset);
  for (uint64_t i = 0; i < view.count && cluster_end < end; ++i) {
    L2Entry entry = mapping.entry(view, i);
    const uint64_t at = std::max(offset, cluster_end);
    if (!all_data(g, entry, at, std::min(cluster_end + g.cluster_size(), end) - at)) break;
    if (entry.offset != first.offset + (i << g.cluster_bits)) break;
    if (!mapping.known_overwritable(view, i)) {
      CO_TRY(bool mine, co_await mapping.may_overwrite(view, i));
      if (!mine) break;
    }
    cluster_end += g.cluster_size();
    done = std::min(cluster_end, end) - offset;
  }
  if (done == 0) co_return uint64_t{0};
  view = {};
  uint64_t target = first.offset + g.in_cluster(offset);
  CO_TRY_VOID(co_await state.guest_data.write(offset, target, from.slice(0, done)));
  co_return done;
}

// Where the first clusters of the view go: `count` is how many the request still touches.
Async<CowTarget> find_target(Image::State& state, const L2View& view, uint64_t count) {
  const Geometry& g = state.geometry();
  Parts& parts = *state.parts;
  L2Entry first = parts.mapping.entry(view, 0);
  CowTarget target;
  uint64_t n = 0;
  if (first.has_cluster()) {
    for (; n < count; ++n) {
      L2Entry entry = parts.mapping.entry(view, n);
      if (!entry.has_cluster()) break;
      if (entry.offset != first.offset + (n << g.cluster_bits)) break;
      CO_TRY(bool mine, co_await parts.mapping.may_overwrite(view, n));
      if (!mine) break;
    }
    if (n != 0) {
      target.host = {first.offset, n << g.cluster_bits};
      target.reused = true;
      co_return target;
    }
  }
  for (n = 0; n < count; ++n) {
    L2Entry entry = parts.mapping.entry(view, n);
    if (entry.kind == ClusterKind::kInvalid) {
      if (n == 0) co_return parts.mapping.invalid_entry(view, 0, true);
      break;
    }
    if (n == 0 || !entry.has_cluster()) continue;
    CO_TRY(bool mine, co_await parts.mapping.may_overwrite(view, n));
    if (mine) break;
  }
  CO_TRY(Allocator::Allocation made, co_await allocate_data(state, view.guest, n));
  target.host = made.range;
  target.fresh = made.fresh;
  co_return target;
}

// The caller holds the clusters exclusively. Returns the bytes written, 0 if the first cluster can
// be written in place (now).
Async<uint64_t> write_allocating(Image::State& state, uint64_t offset, IoSlice from,
                                 block::WriteFlags flags) {
  const Geometry& g = state.geometry();
  Parts& parts = *state.parts;
  CO_TRY_VOID(co_await parts.write_back.before_change());
  CO_TRY(L2View view, co_await parts.mapping.writable_view(offset));
  const uint64_t end = offset + from.size();
  const uint64_t begin = g.cluster_start(offset);
  const uint64_t first_length = std::min(begin + g.cluster_size(), end) - offset;
  if (all_data(g, parts.mapping.entry(view, 0), offset, first_length)) {
    CO_TRY(bool mine, co_await parts.mapping.may_overwrite(view, 0));
    if (mine) co_return uint64_t{0};
  }
  const uint64_t count = std::min(g.clusters_for(end - begin), view.count);
  CO_TRY(CowTarget target, co_await find_target(state, view, count));

  const uint64_t clusters = target.host.length >> g.cluster_bits;
  const uint64_t length = std::min(begin + target.host.length, end) - offset;
  if (length == from.size()) flags.tell_placed();
  L2Entry first = parts.mapping.entry(view, 0);
  L2Entry last = parts.mapping.entry(view, clusters - 1);
  CowWrite cow(state, offset, from.slice(0, length), target, first, last);
  Result<void> written = co_await cow.run();
  if (written.ok()) written = state.check_writable();
  if (!written.ok()) {
    if (!target.reused) co_await undo_data(state, target.host);
    co_return std::move(written.error());
  }
  for (uint64_t i = 0; i < clusters; ++i) {
    const L2Entry old = parts.mapping.entry(view, i);
    const ByteRange cluster{begin + (i << g.cluster_bits), g.cluster_size()};
    const ByteRange here = cow.written().intersect(cluster);
    const uint32_t fresh = subcluster_mask(g, here.offset, here.length);
    const uint32_t kept = target.reused ? old.data_mask : 0;
    parts.mapping.set(view, i,
                      L2Entry::at(target.host.offset + (i << g.cluster_bits), true, kept | fresh,
                                  old.zero_mask & ~fresh));
    if (!target.reused) release(state, old, false);
  }
  co_return length;
}

// All of [offset, …) lies under one slice of an L2 table.
Async<> write_piece(Image::State& state, uint64_t offset, IoSlice from, block::WriteFlags flags) {
  RangeLock& locks = state.parts->clusters;
  while (!from.empty()) {
    ByteRange range{offset, from.size()};
    ByteRange clusters = state.clusters_of(range);
    uint64_t done = 0;
    {
      RangeLock::Holder hold(locks, clusters, RangeLock::Mode::kShared);
      co_await hold.acquire();
      CO_TRY(done, co_await write_in_place(state, offset, from));
    }
    if (done == 0) {
      RangeLock::Holder hold(locks, clusters, RangeLock::Mode::kExclusive);
      co_await hold.acquire();
      CO_TRY(done, co_await write_allocating(state, offset, from, flags));
    }
    offset += done;
    from = from.slice(done, from.size() - done);
  }
  co_return Result<void>();
}

}  // namespace

Async<> write_guest(Image::State& state, uint64_t offset, IoSlice from, block::WriteFlags flags) {
  const Geometry& g = state.geometry();
  const uint64_t coverage = g.l2_slice_coverage();
  const uint64_t end = offset + from.size();
  std::vector<Async<>> tasks;
  for (uint64_t at = offset; at < end;) {
    uint64_t n = std::min(align_down(at, coverage) + coverage, end) - at;
    if (n == from.size()) co_return co_await write_piece(state, offset, from, flags);
    tasks.push_back(write_piece(state, at, from.slice(at - offset, n), {}));
    at += n;
    if (tasks.size() == kMaxPieces) {
      std::vector<Async<>> full = std::exchange(tasks, {});
      CO_TRY_VOID(co_await all_succeed(state.executor, std::move(full)));
    }
  }
  if (!tasks.empty()) CO_TRY_VOID(co_await all_succeed(state.executor, std::move(tasks)));
  co_return Result<void>();
}

Async<Allocator::Allocation> allocate_data(Image::State& state, uint64_t guest, uint64_t clusters) {
  const Geometry& g = state.geometry();
  if (!g.external_data) {
    co_return co_await state.parts->allocator.allocate(clusters, "data cluster");
  }
  Allocator::Allocation same;
  same.range = {guest, clusters << g.cluster_bits};
  same.fresh = guest >= state.data().high_water();
  co_return same;
}

Task<void> undo_data(Image::State& state, ByteRange host) {
  if (!state.geometry().external_data) co_await state.parts->allocator.undo(host);
}

void release(Image::State& state, const L2Entry& entry, bool punch) {
  if (state.geometry().external_data) return;
  if (!entry.has_cluster() && entry.kind != ClusterKind::kCompressed) return;
  if (entry.kind == ClusterKind::kCompressed) {
    state.parts->compressed.forget(entry.offset);
    punch = false;
  }
  state.parts->allocator.free_later(
      {entry.offset,
       entry.has_cluster() ? state.geometry().cluster_size() : entry.compressed_length},
      punch);
}

}  // namespace calf::qcow2
