// Writing zeroes and discarding. Neither ever lets the backing node show through: a cluster that
// gives its space back becomes a zero cluster (version 3), or stays as it is (version 2, which has
// none), unless there is nothing behind it.
#include <algorithm>

#include "block/io/aligned_buffer.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {
namespace {

enum class Wish : uint8_t { kZero, kZeroUnmap, kDiscard };

// What becomes of `old`; nothing if it stays. `keep_space`: its cluster may be kept for a zero
// entry.
std::optional<L2Entry> replacement(const Image::State& state, L2Entry old, uint64_t guest,
                                   Wish wish, bool keep_space) {
  const bool has_zero_flag = state.geometry().version >= 3;
  const bool nothing_behind = guest >= state.backing_size();
  switch (old.kind) {
    case ClusterKind::kUnallocated:
      if (wish == Wish::kDiscard || !has_zero_flag) return std::nullopt;
      return L2Entry::zero();
    case ClusterKind::kZeroPlain:
      return std::nullopt;
    case ClusterKind::kZeroAlloc:
      if (wish == Wish::kZero && keep_space) return std::nullopt;
      return L2Entry::zero();
    case ClusterKind::kData:
      if (!has_zero_flag) return nothing_behind ? std::optional(L2Entry{}) : std::nullopt;
      if (wish == Wish::kZero && keep_space) return L2Entry::zero_alloc(old.offset);
      return L2Entry::zero();
    case ClusterKind::kCompressed:
      if (!has_zero_flag) return nothing_behind ? std::optional(L2Entry{}) : std::nullopt;
      return L2Entry::zero();
    case ClusterKind::kInvalid:
      return std::nullopt;
  }
  return std::nullopt;
}

// Whole clusters under one slice. Returns true if all of them read as zeroes now (or, for a
// discard, are as they may be); false if data has to be written.
Async<bool> change_entries(Image::State& state, ByteRange range, Wish wish) {
  const Geometry& g = state.geometry();
  Mapping& mapping = state.parts->mapping;
  RangeLock::Holder hold(state.parts->clusters, state.clusters_of(range),
                         RangeLock::Mode::kExclusive);
  co_await hold.acquire();

  // Without a table there is nothing to give back, and perhaps nothing behind it.
  CO_TRY(L2View view, co_await mapping.view(range.offset));
  if (!view.slice) {
    if (wish == Wish::kDiscard || range.offset >= state.backing_size()) co_return true;
    if (g.version < 3) co_return false;
  }
  CO_TRY_VOID(co_await state.parts->write_back.before_change());
  CO_TRY(view, co_await mapping.writable_view(range.offset));
  CO_TRY_VOID(state.check_writable());

  bool complete = true;
  const uint64_t count = g.clusters_for(range.length);
  for (uint64_t i = 0; i < count; ++i) {
    const L2Entry old = mapping.entry(view, i);
    const uint64_t guest = range.offset + (i << g.cluster_bits);
    if (old.kind == ClusterKind::kInvalid) co_return mapping.invalid_entry(view, i, true);
    bool keep_space = false;
    if (wish == Wish::kZero && old.has_cluster()) {
      CO_TRY(keep_space, co_await mapping.may_overwrite(view, i));
    }
    std::optional<L2Entry> fresh = replacement(state, old, guest, wish, keep_space);
    if (!fresh) {
      if (!part_reads_zero(state, old, {guest, g.cluster_size()})) complete = false;
      continue;
    }
    mapping.set(view, i, *fresh);
    if (!fresh->has_cluster()) release(state, old, wish != Wish::kZero);
  }
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

// The whole clusters inside `range`; the last one of the disk counts as whole.
ByteRange whole_clusters(const Image::State& state, ByteRange range) {
  const Geometry& g = state.geometry();
  uint64_t begin = align_up(range.offset, g.cluster_size());
  uint64_t end = range.end() == state.size ? align_up(range.end(), g.cluster_size())
                                           : g.cluster_start(range.end());
  return begin < end ? ByteRange{begin, end - begin} : ByteRange{begin, 0};
}

uint64_t slice_end(const Geometry& g, uint64_t at, uint64_t end) {
  uint64_t coverage = g.slice_size() / 8 << g.cluster_bits;
  return std::min(align_down(at, coverage) + coverage, end);
}

}  // namespace

Async<> zero_guest(Image::State& state, ByteRange range, bool may_unmap) {
  const Geometry& g = state.geometry();
  ByteRange whole = whole_clusters(state, range);
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
  ByteRange whole = whole_clusters(state, range);
  for (uint64_t at = whole.offset; at < whole.end();) {
    ByteRange part{at, slice_end(g, at, whole.end()) - at};
    CO_TRY(bool done, co_await change_entries(state, part, Wish::kDiscard));
    (void)done;
    at = part.end();
  }
  co_return Result<void>();
}

}  // namespace calf::qcow2
