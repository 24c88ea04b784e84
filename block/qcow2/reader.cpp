// Reading: the request is cut into pieces of one kind, each of which is one transfer; several run
// side by side. All guest clusters of the request are held shared, so none of them is freed and
// reused while its bytes are on their way.
#include <algorithm>

#include "block/io/aligned_buffer.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {
namespace {

constexpr size_t kMaxPieces = 32;

struct Piece {
  L2Entry entry;  // of the first cluster
  uint64_t offset = 0;
  uint64_t length = 0;
};

// The longest stretch from `offset` on, inside the view and up to `end`, that one transfer serves.
Piece next_piece(const Image::State& state, const L2View& view, uint64_t offset, uint64_t end) {
  const Geometry& g = state.geometry();
  const Mapping& mapping = state.parts->mapping;
  Piece piece{mapping.entry(view, 0), offset, 0};
  uint64_t cluster_end = g.cluster_start(offset) + g.cluster_size();
  for (uint64_t i = 1; i < view.count && cluster_end < end; ++i, cluster_end += g.cluster_size()) {
    L2Entry next = mapping.entry(view, i);
    bool joins = next.kind == piece.entry.kind && next.kind != ClusterKind::kCompressed &&
                 next.kind != ClusterKind::kInvalid;
    if (next.has_cluster()) {
      joins &= next.offset == piece.entry.offset + (i << g.cluster_bits);
    }
    if (!joins) break;
  }
  piece.length = std::min(cluster_end, end) - offset;
  return piece;
}

Async<> read_backing(Image::State& state, uint64_t offset, IoSlice to) {
  uint64_t size = state.backing_size();
  uint64_t present = offset >= size ? 0 : std::min<uint64_t>(to.size(), size - offset);
  if (present < to.size()) to.slice(present, to.size() - present).fill(0);
  if (present == 0) co_return Result<void>();
  uint64_t alignment = state.backing->limits().request_alignment;
  if (alignment <= 1 || is_aligned(offset | present, alignment)) {
    co_return co_await state.backing->read(offset, to.slice(0, present));
  }
  uint64_t begin = align_down(offset, alignment);
  AlignedBuffer bounce(align_up(offset + present, alignment) - begin);
  FlatIo io(bounce.span());
  CO_TRY_VOID(co_await state.backing->read(begin, io.slice()));
  to.slice(0, present)
      .copy_from(std::span<const uint8_t>(bounce.data() + (offset - begin), present));
  co_return Result<void>();
}

Async<> transfer(Image::State& state, L2Entry entry, uint64_t offset, IoSlice to) {
  uint64_t in_cluster = state.geometry().in_cluster(offset);
  switch (entry.kind) {
    case ClusterKind::kUnallocated:
      return read_backing(state, offset, to);
    case ClusterKind::kData:
      return state.file.read(entry.offset + in_cluster, to);
    case ClusterKind::kCompressed:
      return state.parts->compressed.read(entry, in_cluster, to);
    case ClusterKind::kZeroPlain:
    case ClusterKind::kZeroAlloc:
    case ClusterKind::kInvalid:
      break;
  }
  assert(false);
  return {};
}

}  // namespace

Async<> read_guest(Image::State& state, uint64_t offset, IoSlice to) {
  if (to.empty()) co_return Result<void>();
  ByteRange range{offset, to.size()};
  RangeLock::Holder hold(state.parts->clusters, state.clusters_of(range), RangeLock::Mode::kShared);
  co_await hold.acquire();

  Mapping& mapping = state.parts->mapping;
  std::vector<Async<>> tasks;
  for (uint64_t at = offset; at < range.end();) {
    L2View view;
    if (std::optional<L2View> cached = mapping.find(at)) {
      view = std::move(*cached);
    } else {
      CO_TRY(view, co_await mapping.view(at));
    }
    Piece piece = next_piece(state, view, at, range.end());
    IoSlice part = to.slice(at - offset, piece.length);
    at += piece.length;
    if (piece.entry.kind == ClusterKind::kInvalid) {
      co_return mapping.invalid_entry(view, 0, false);
    }
    if (part_reads_zero(state, piece.entry, {piece.offset, piece.length})) {
      part.fill(0);
      continue;
    }
    view = {};
    Async<> task = transfer(state, piece.entry, piece.offset, part);
    if (part.size() == to.size()) co_return co_await task;
    tasks.push_back(std::move(task));
    if (tasks.size() == kMaxPieces) {
      std::vector<Async<>> full = std::exchange(tasks, {});
      CO_TRY_VOID(co_await all_succeed(state.executor, std::move(full)));
    }
  }
  if (tasks.empty()) co_return Result<void>();
  if (tasks.size() == 1) {
    Async<> only = std::move(tasks[0]);
    co_return co_await only;
  }
  co_return co_await all_succeed(state.executor, std::move(tasks));
}

bool part_reads_zero(const Image::State& state, L2Entry entry, ByteRange part) {
  return entry.reads_zero() ||
         (entry.kind == ClusterKind::kUnallocated && part.offset >= state.backing_size());
}

Async<> read_cluster_part(Image::State& state, L2Entry entry, uint64_t offset, IoSlice to) {
  // Bytes behind the end of the disk are zeroes, whatever the backing file or old cluster holds.
  uint64_t inside = offset >= state.size ? 0 : std::min<uint64_t>(to.size(), state.size - offset);
  if (inside < to.size()) to.slice(inside, to.size() - inside).fill(0);
  if (inside == 0) co_return Result<void>();
  IoSlice part = to.slice(0, inside);
  if (part_reads_zero(state, entry, {offset, inside})) {
    part.fill(0);
    co_return Result<void>();
  }
  if (entry.kind == ClusterKind::kInvalid) {
    co_return make_error(ErrorKind::kCorrupt, "Invalid cluster entry");
  }
  co_return co_await transfer(state, entry, offset, part);
}

Async<block::Extent> map_guest(Image::State& state, ByteRange range) {
  const Geometry& g = state.geometry();
  Mapping& mapping = state.parts->mapping;
  block::Extent out;
  L2Entry first;
  for (uint64_t at = range.offset; at < range.end();) {
    CO_TRY(L2View view, co_await mapping.view(at));
    Piece piece = next_piece(state, view, at, range.end());
    if (piece.entry.kind == ClusterKind::kInvalid) {
      co_return mapping.invalid_entry(view, 0, false);
    }
    if (at == range.offset) {
      first = piece.entry;
    } else {
      bool joins = piece.entry.kind == first.kind;
      if (first.has_cluster()) {
        joins &= piece.entry.offset + g.in_cluster(at) ==
                 first.offset + g.in_cluster(range.offset) + (at - range.offset);
      }
      if (!joins) break;
    }
    at += piece.length;
    out.range = {range.offset, at - range.offset};
  }
  out.allocated = first.kind != ClusterKind::kUnallocated;
  out.zero = first.reads_zero();
  out.data = first.kind == ClusterKind::kData || first.kind == ClusterKind::kCompressed;
  out.encoded = first.kind == ClusterKind::kCompressed;
  if (first.has_cluster()) {
    out.host_offset = first.offset + g.in_cluster(range.offset);
    out.host_file = &state.file.node().name();
  }
  co_return out;
}

}  // namespace calf::qcow2
