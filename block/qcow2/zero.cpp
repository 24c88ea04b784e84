// Writing zeroes and discarding. Neither ever lets the backing node show through: a cluster that
// gives its space back becomes a zero cluster (version 3), or stays as it is (version 2, which has
// none), unless there is nothing behind it.
#include <algorithm>

#include "block/io/aligned_buffer.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {
namespace {

enum class Wish : uint8_t { kZero, kZeroUnmap, kDiscard };

// The same for some subclusters only. They are part of a whole that stays: whatever else it holds
// keeps its place.
std::optional<L2Entry> partial_replacement(const L2Entry& old, uint32_t mask, bool mine) {
  if (old.kind == ClusterKind::kCompressed) return std::nullopt;
  if ((old.zero_mask & mask) == mask) return std::nullopt;
  L2Entry changed =
      L2Entry::at(old.offset, old.placed, old.data_mask & ~mask, old.zero_mask | mask);
  changed.copied = mine;
  return changed;
}

// What becomes of all of `old`; nothing if it stays. `mine`: its cluster may be kept for a zero
// entry.
std::optional<L2Entry> replacement(const Image::State& state, L2Entry old, uint64_t guest,
                                   Wish wish, bool mine) {
  const bool has_zero_flag = state.geometry().version >= 3;
  const bool nothing_behind = guest >= state.backing_size();
  switch (old.kind) {
    case ClusterKind::kUnallocated:
      if (wish == Wish::kDiscard || !has_zero_flag) return std::nullopt;
      return L2Entry::zero();
    case ClusterKind::kZeroPlain:
      return std::nullopt;
    case ClusterKind::kZeroAlloc:
      if (wish == Wish::kZero && mine) return std::nullopt;
      return L2Entry::zero();
    case ClusterKind::kData:
      if (!has_zero_flag) return nothing_behind ? std::optional(L2Entry{}) : std::nullopt;
      if (wish == Wish::kZero && mine) return L2Entry::zero_alloc(old.offset);
      return L2Entry::zero();
    case ClusterKind::kCompressed:
      if (!has_zero_flag) return nothing_behind ? std::optional(L2Entry{}) : std::nullopt;
      return L2Entry::zero();
    case ClusterKind::kMixed:
      if (wish == Wish::kDiscard && !old.placed) return std::nullopt;
      if (wish == Wish::kZero && mine) return L2Entry::zero_alloc(old.offset);
      return L2Entry::zero();
    case ClusterKind::kInvalid:
      return std::nullopt;
  }
  return std::nullopt;
}

// What a data file holds in `range`, whose clusters are held exclusively and just lost their data,
// need not be kept. Nobody else can have the place, so it is given back at once. A raw one must
// read as zeroes.
Async<> clear_data_file(Image::State& state, ByteRange range, Wish wish) {
  range = range.intersect({0, state.size});
  if (state.data_is_raw()) {
    co_return co_await state.data().write_zeroes(range, wish != Wish::kZero);
  }
  if (wish != Wish::kZero) {
    // A hole is a favour to the host: failing to punch it costs space only.
    Result<void> punched = co_await state.data().discard(range);
    (void)punched;
  }
  co_return Result<void>();
}

// Whole subclusters under one slice. Returns true if all of them read as zeroes now (or, for a
// discard, are as they may be); false if data has to be written.
Async<bool> change_entries(Image::State& state, ByteRange range, Wish wish) {
  const Geometry& g = state.geometry();
  Mapping& mapping = state.parts->mapping;
  RangeLock::Holder hold(state.parts->clusters, state.clusters_of(range),
                         RangeLock::Mode::kExclusive);
  co_await hold.acquire();

  // Without a table there is nothing to give back. Zeroes are noted all the same (version 3): who
  // asks finds them in this layer, as in QEMU's images.
  CO_TRY(L2View view, co_await mapping.view(range.offset));
  if (!view.slice) {
    if (wish == Wish::kDiscard) co_return true;
    if (g.version < 3) co_return range.offset >= state.backing_size();
  }
  CO_TRY_VOID(co_await state.parts->write_back.before_change());
  CO_TRY(view, co_await mapping.writable_view(range.offset));
  CO_TRY_VOID(state.check_writable());

  bool complete = true;
  const uint64_t count = g.clusters_for(range.end() - view.guest);
  for (uint64_t i = 0; i < count; ++i) {
    const L2Entry old = mapping.entry(view, i);
    const ByteRange cluster{view.guest + (i << g.cluster_bits), g.cluster_size()};
    const ByteRange part = cluster.intersect(range);
    if (old.kind == ClusterKind::kInvalid) co_return mapping.invalid_entry(view, i, true);
    bool mine = false;
    if (old.has_cluster() && (wish == Wish::kZero || part != cluster)) {
      CO_TRY(mine, co_await mapping.may_overwrite(view, i));
    }
    std::optional<L2Entry> fresh =
        part == cluster
            ? replacement(state, old, cluster.offset, wish, mine)
            : partial_replacement(old, subcluster_mask(g, part.offset, part.length), mine);
    if (!fresh) {
      if (!part_reads_zero(state, old, part)) complete = false;
      continue;
    }
    mapping.set(view, i, *fresh);
    if (!fresh->has_cluster()) release(state, old, wish != Wish::kZero);
  }
  if (g.external_data) CO_TRY_VOID(co_await clear_data_file(state, range, wish));
  co_return complete || wish == Wish::kDiscard;
}

// Zeroes as data, through the ordinary write path, where they do not stand already.
Async<> write_zero_data(Image::State& state, ByteRange range) {
  const Geometry& g = state.geometry();
  AlignedBuffer zeroes(std::min(range.length, g.cluster_size()));
  std::fill(zeroes.span().begin(), zeroes.span().end(), uint8_t{0});
  for (uint64_t at = range.offset; at < range.end();) {
    uint64_t n = std::min(g.cluster_start(at) + g.cluster_size(), range.end()) - at;
    CO_TRY(L2View view, co_await state.parts->mapping.view(at));
    L2Entry entry = state.parts->mapping.entry(view, 0);
    view = {};
    if (!part_reads_zero(state, entry, {at, n})) {
      FlatIo io(zeroes.span().first(n));
      CO_TRY_VOID(co_await write_guest(state, at, io.slice()));
    }
    at += n;
  }
  co_return Result<void>();
}

// The whole units (clusters or subclusters) inside `range`; the last cluster of the disk counts as
// whole.
ByteRange whole_units(const Image::State& state, ByteRange range, uint64_t unit) {
  const Geometry& g = state.geometry();
  uint64_t begin = align_up(range.offset, unit);
  uint64_t end = range.end() == state.size ? align_up(range.end(), g.cluster_size())
                                           : align_down(range.end(), unit);
  return begin < end ? ByteRange{begin, end - begin} : ByteRange{begin, 0};
}

uint64_t slice_end(const Geometry& g, uint64_t at, uint64_t end) {
  return std::min(align_down(at, g.l2_slice_coverage()) + g.l2_slice_coverage(), end);
}

}  // namespace

Async<> zero_guest(Image::State& state, ByteRange range, bool may_unmap) {
  const Geometry& g = state.geometry();
  ByteRange whole = whole_units(state, range, g.subcluster_size());
  if (whole.empty()) co_return co_await write_zero_data(state, range);
  if (range.offset < whole.offset) {
    ByteRange head{range.offset, whole.offset - range.offset};
    CO_TRY_VOID(co_await write_zero_data(state, head));
  }
  for (uint64_t at = whole.offset; at < whole.end();) {
    ByteRange part{at, slice_end(g, at, whole.end()) - at};
    CO_TRY(bool done,
           co_await change_entries(state, part, may_unmap ? Wish::kZeroUnmap : Wish::kZero));
    if (!done) {
      ByteRange inside = part.intersect({0, state.size});
      CO_TRY_VOID(co_await write_zero_data(state, inside));
    }
    at = part.end();
  }
  if (whole.end() < range.end()) {
    ByteRange tail{whole.end(), range.end() - whole.end()};
    CO_TRY_VOID(co_await write_zero_data(state, tail));
  }
  co_return Result<void>();
}

Async<> discard_guest(Image::State& state, ByteRange range) {
  const Geometry& g = state.geometry();
  // As QEMU: of a part of a cluster nothing is given back.
  ByteRange whole = whole_units(state, range, g.cluster_size());
  for (uint64_t at = whole.offset; at < whole.end();) {
    ByteRange part{at, slice_end(g, at, whole.end()) - at};
    CO_TRY(bool done, co_await change_entries(state, part, Wish::kDiscard));
    (void)done;
    at = part.end();
  }
  co_return Result<void>();
}

}  // namespace calf::qcow2
