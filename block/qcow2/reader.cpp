// Reading: the request is cut into pieces of one kind, each of which is one transfer; several run
// side by side. All guest clusters of the request are held shared, so none of them is freed and
// reused while its bytes are on their way.
#include <algorithm>

#include "block/qcow2/image_state.h"

namespace calf::qcow2 {
namespace {

constexpr size_t kMaxPieces = 32;

struct Piece {
  L2Entry entry;  // of the first cluster
  // Of all subclusters.
  ClusterKind kind = ClusterKind::kUnallocated;
  uint64_t offset = 0;
  uint64_t length = 0;
};

// May one transfer go on from cluster `a`, all of whose rest is of one kind, to `b`, `distance`
// bytes further?
bool continues(const L2Entry& a, const L2Entry& b, uint64_t distance) {
  return a.placed == b.placed && (!a.placed || b.offset == a.offset + distance);
}

// The longest stretch from `offset` on, inside the view and up to `end`, that one transfer serves.
Piece next_piece(const Image::State& state, const L2View& view, uint64_t offset, uint64_t end) {
  const Geometry& g = state.geometry();
  const Mapping& mapping = state.parts->mapping;
  Piece piece{mapping.entry(view, 0), ClusterKind::kUnallocated, offset, 0};
  if (!view.slice) {
    piece.length = mapping.end_without_table(offset, end) - offset;
    return piece;
  }
  unsigned sub = g.subcluster_index(offset);
  piece.kind = piece.entry.part(sub);
  const bool alone = piece.kind == ClusterKind::kCompressed || piece.kind == ClusterKind::kInvalid;
  L2Entry entry = piece.entry;
  uint64_t cluster = g.cluster_start(offset);
  uint64_t known_end = 0;
  for (uint64_t i = 0;; sub = 0) {
    const unsigned after = sub + entry.run(sub, g.subclusters());
    known_end = cluster + (uint64_t{after} << g.subcluster_bits());
    cluster += g.cluster_size();
    if (known_end < cluster || cluster >= end || alone || ++i == view.count) break;
    entry = mapping.entry(view, i);
    if (entry.part(0) != piece.kind || !continues(piece.entry, entry, i << g.cluster_bits)) break;
  }
  piece.length = std::min(known_end, end) - offset;
  return piece;
}

bool reads_zero(const Image::State& state, ClusterKind kind, uint64_t offset) {
  return kind == ClusterKind::kZeroPlain || kind == ClusterKind::kZeroAlloc ||
         (kind == ClusterKind::kUnallocated && offset >= state.backing_size());
}

// The first layer from `node` down that may have something of `range`, which lies inside of it.
// Layers that are known to have nothing are stepped over, so that a long chain costs a look at each
// of its tables, not a request to each of its layers.
block::Node& layer_with(block::Node& node, ByteRange range) {
  block::Node* layer = &node;
  while (layer->read_only()) {
    block::Node* below = layer->backing();
    if (below == nullptr || range.end() > below->size()) break;
    const std::optional<block::Extent> known = layer->known(range);
    if (!known || known->allocated || known->range.length < range.length) break;
    layer = below;
  }
  return *layer;
}

// The backing file ends inside of the range, or before it.
Async<> read_backing_end(Image::State& state, uint64_t offset, IoSlice to) {
  const uint64_t size = state.backing_size();
  const uint64_t present = offset >= size ? 0 : size - offset;
  to.slice(present, to.size() - present).fill(0);
  if (present == 0) co_return Result<void>();
  block::Node& layer = layer_with(*state.backing, {offset, present});
  co_return co_await layer.read(offset, to.slice(0, present));
}

Async<> read_backing(Image::State& state, uint64_t offset, IoSlice to) {
  const ByteRange range{offset, to.size()};
  if (range.end() > state.backing_size()) return read_backing_end(state, offset, to);
  return layer_with(*state.backing, range).read(offset, to);
}

Async<> transfer(Image::State& state, L2Entry entry, ClusterKind kind, uint64_t offset,
                 IoSlice to) {
  uint64_t in_cluster = state.geometry().in_cluster(offset);
  switch (kind) {
    case ClusterKind::kUnallocated:
      return read_backing(state, offset, to);
    case ClusterKind::kData:
      return state.guest_data.read(offset, entry.offset + in_cluster, to);
    case ClusterKind::kCompressed:
      return state.parts->compressed.read(entry, in_cluster, to);
    case ClusterKind::kZeroPlain:
    case ClusterKind::kZeroAlloc:
    case ClusterKind::kInvalid:
    case ClusterKind::kMixed:
      break;
  }
  assert(false);
  return {};
}

// The piece that is all of `range`, if there is one and its table is in memory.
std::optional<Piece> only_piece(Image::State& state, ByteRange range) {
  const std::optional<L2View> view = state.parts->mapping.find(range.offset);
  if (!view) return std::nullopt;
  const Piece piece = next_piece(state, *view, range.offset, range.end());
  if (piece.length != range.length || piece.kind == ClusterKind::kInvalid) return std::nullopt;
  return piece;
}

Async<> read_held(Image::State& state, uint64_t offset, IoSlice to) {
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
    if (piece.kind == ClusterKind::kInvalid) {
      co_return mapping.invalid_entry(view, 0, false);
    }
    if (reads_zero(state, piece.kind, piece.offset)) {
      part.fill(0);
      continue;
    }
    view = {};
    Async<> task = transfer(state, piece.entry, piece.kind, piece.offset, part);
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

}  // namespace

// Nothing is to be held of an image that nobody changes, and most reads are one piece of a table in
// memory: the file is asked at once.
Async<> read_guest(Image::State& state, uint64_t offset, IoSlice to) {
  if (!state.options.writable && !to.empty()) {
    const std::optional<Piece> piece = only_piece(state, {offset, to.size()});
    if (piece && !reads_zero(state, piece->kind, offset)) {
      return transfer(state, piece->entry, piece->kind, offset, to);
    }
  }
  return read_held(state, offset, to);
}

bool part_reads_zero(const Image::State& state, L2Entry entry, ByteRange part) {
  const Geometry& g = state.geometry();
  for (uint64_t at = part.offset; at < part.end();) {
    const unsigned sub = g.subcluster_index(at);
    if (!reads_zero(state, entry.part(sub), at)) return false;
    const uint64_t after = sub + entry.run(sub, g.subclusters());
    at = g.cluster_start(at) + (after << g.subcluster_bits());
  }
  return true;
}

Async<> read_cluster_part(Image::State& state, L2Entry entry, uint64_t offset, IoSlice to) {
  // Bytes behind the end of the disk are zeroes, whatever the backing file or old cluster holds.
  uint64_t inside = offset >= state.size ? 0 : std::min<uint64_t>(to.size(), state.size - offset);
  if (inside < to.size()) to.slice(inside, to.size() - inside).fill(0);
  if (inside == 0) co_return Result<void>();
  if (entry.kind == ClusterKind::kInvalid) {
    co_return make_error(ErrorKind::kCorrupt, "Invalid cluster entry");
  }
  const Geometry& g = state.geometry();
  const uint64_t end = offset + inside;
  for (uint64_t at = offset; at < end;) {
    const unsigned sub = g.subcluster_index(at);
    const uint64_t after = sub + entry.run(sub, g.subclusters());
    const uint64_t run_end = g.cluster_start(at) + (after << g.subcluster_bits());
    IoSlice part = to.slice(at - offset, std::min(run_end, end) - at);
    if (reads_zero(state, entry.part(sub), at)) {
      part.fill(0);
    } else {
      CO_TRY_VOID(co_await transfer(state, entry, entry.part(sub), at, part));
    }
    at += part.size();
  }
  co_return Result<void>();
}

std::optional<block::Extent> known_extent(Image::State& state, ByteRange range) {
  const Geometry& g = state.geometry();
  Mapping& mapping = state.parts->mapping;
  // What a read finds in each layer of a chain of fresh overlays.
  if (range.length <= g.l2_coverage() &&
      mapping.end_without_table(range.offset, range.end()) == range.end()) {
    std::optional<block::Extent> nothing(std::in_place);
    nothing->range = range;
    return nothing;
  }
  std::optional<L2View> view = mapping.find(range.offset);
  if (!view) return std::nullopt;
  const Piece first = next_piece(state, *view, range.offset, range.end());
  if (first.kind == ClusterKind::kInvalid) return std::nullopt;
  uint64_t end = range.offset + first.length;
  // A piece that ended before its slice did has something else behind it. (Compressed clusters are
  // pieces of their own.)
  while (end < range.end() && (first.kind == ClusterKind::kCompressed ||
                               g.clusters_for(end - view->guest) >= view->count)) {
    view = mapping.find(end);
    if (!view) break;
    const Piece piece = next_piece(state, *view, end, range.end());
    const uint64_t distance = g.cluster_start(end) - g.cluster_start(range.offset);
    if (piece.kind != first.kind || !continues(first.entry, piece.entry, distance)) break;
    end += piece.length;
  }
  std::optional<block::Extent> out(std::in_place);
  out->range = {range.offset, end - range.offset};
  out->allocated = first.kind != ClusterKind::kUnallocated;
  out->zero = first.kind == ClusterKind::kZeroPlain || first.kind == ClusterKind::kZeroAlloc;
  out->data = first.kind == ClusterKind::kData || first.kind == ClusterKind::kCompressed;
  const bool encrypted = state.guest_data.encrypted();
  out->encoded = first.kind == ClusterKind::kCompressed || (out->data && encrypted);
  // Kept for an unallocated subcluster too: qemu-img names the place.
  if (first.entry.has_cluster() && first.kind != ClusterKind::kZeroPlain && !encrypted) {
    out->host_offset = first.entry.offset + g.in_cluster(range.offset);
    out->host_file = &state.data_name();
  }
  return out;
}

Async<block::Extent> map_guest(Image::State& state, ByteRange range) {
  Mapping& mapping = state.parts->mapping;
  // Pinned, so it is found.
  CO_TRY(L2View view, co_await mapping.view(range.offset));
  if (std::optional<block::Extent> extent = known_extent(state, range)) co_return *extent;
  co_return mapping.invalid_entry(view, 0, false);
}

}  // namespace calf::qcow2
