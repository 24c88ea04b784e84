#include "block/qcow2/reference_tree.h"

#include <algorithm>
#include <span>

#include "block/qcow2/census.h"

namespace calf::qcow2 {
namespace {

// Counts its way through a tree: how many ranges were dealt with, so that an undo stops there.
constexpr uint64_t kEverything = UINT64_MAX;

Async<> reference_all(Image::State& state, const std::vector<uint64_t>& l1, uint64_t* added) {
  Parts& parts = *state.parts;
  TreeWalk walk(state, l1);
  TableReferences refs;
  while (true) {
    CO_TRY(bool more, co_await walk.next(&refs));
    if (!more) co_return Result<void>();
    CO_TRY_VOID(co_await parts.write_back.before_change());
    const ByteRange table{refs.table, state.geometry().cluster_size()};
    CO_TRY_VOID(co_await parts.allocator.reference(std::span(&table, 1), added));
    CO_TRY_VOID(co_await parts.allocator.reference(refs.clusters, added));
    CO_TRY_VOID(co_await parts.allocator.reference(refs.compressed, added));
  }
}

// Takes back the first `count` references, in the order in which they were added. What cannot be
// taken back leaks.
Task<void> undo_first(Image::State& state, const std::vector<uint64_t>& l1, uint64_t count) {
  Allocator& allocator = state.parts->allocator;
  TreeWalk walk(state, l1);
  TableReferences refs;
  while (count != 0) {
    Result<bool> more = co_await walk.next(&refs);
    if (!more.ok() || !*more) co_return;
    ByteRange table{refs.table, state.geometry().cluster_size()};
    co_await allocator.undo(table);
    --count;
    for (const std::vector<ByteRange>* list : {&refs.clusters, &refs.compressed}) {
      for (size_t i = 0; i < list->size() && count != 0; ++i, --count)
        co_await allocator.undo((*list)[i]);
    }
  }
}

// Refcounts, one after another: a piece of a block is looked up once for neighbours, and without
// waiting if it is in memory.
class CountReader {
 public:
  explicit CountReader(Refcounts& refcounts) : refcounts_(refcounts) {}

  // Nothing: load() it.
  std::optional<uint64_t> find(uint64_t cluster) {
    if (!has(cluster)) {
      std::optional<Refcounts::Place> place = refcounts_.find(cluster);
      if (!place) return std::nullopt;
      take(cluster, std::move(*place));
    }
    return count_of(cluster);
  }
  Async<uint64_t> load(uint64_t cluster) {
    slice_ = {};
    length_ = 0;
    if (!refcounts_.covered(cluster)) co_return 0;
    CO_TRY(Refcounts::Place place, co_await refcounts_.place(cluster));
    take(cluster, std::move(place));
    co_return count_of(cluster);
  }

 private:
  bool has(uint64_t cluster) const { return cluster - first_ < length_; }
  uint64_t count_of(uint64_t cluster) const {
    return get_count(slice_.bytes(), cluster - first_, refcounts_.geometry().refcount_order);
  }
  void take(uint64_t cluster, Refcounts::Place place) {
    slice_ = std::move(place.slice);
    first_ = cluster - place.index;
    length_ = refcounts_.counts_per_slice();
  }

  Refcounts& refcounts_;
  SliceRef slice_;
  uint64_t first_ = 0;
  uint64_t length_ = 0;
};

// `own`: areas that the ranges may be in.
Async<> check_ranges(Image::State& state, CountReader& counts, std::span<const ByteRange> ranges,
                     uint16_t own) {
  const Geometry& g = state.geometry();
  for (ByteRange range : ranges) {
    const uint16_t areas = state.parts->map.find(range, own);
    if (areas != 0) {
      co_return make_error(ErrorKind::kCorrupt, "The cluster at {:#x} is part of the {} as well",
                           range.offset, area_name(areas));
    }
    const uint64_t last = g.cluster_index(range.end() - 1);
    for (uint64_t cluster = g.cluster_index(range.offset); cluster <= last; ++cluster) {
      std::optional<uint64_t> count = counts.find(cluster);
      if (!count) {
        CO_TRY(count, co_await counts.load(cluster));
      }
      if (*count != 0) continue;
      co_return make_error(ErrorKind::kCorrupt, "The cluster at {:#x} is in use but not counted",
                           cluster << g.cluster_bits);
    }
  }
  co_return Result<void>();
}

// The COPIED flags of the entries of one L2 table.
Async<> refresh_table(Image::State& state, uint64_t l1_index) {
  const Geometry& g = state.geometry();
  Parts& parts = *state.parts;
  CountReader counts(parts.refcounts);
  const uint64_t begin = l1_index << (g.cluster_bits + g.l2_bits());
  for (uint64_t at = begin; at < begin + g.l2_coverage();) {
    CO_TRY(L2View view, co_await parts.mapping.view(at));
    for (uint64_t i = 0; i < view.count; ++i) {
      L2Entry entry = parts.mapping.entry(view, i);
      if (!entry.has_cluster()) continue;
      const uint64_t cluster = g.cluster_index(entry.offset);
      std::optional<uint64_t> count = counts.find(cluster);
      if (!count) {
        CO_TRY(count, co_await counts.load(cluster));
      }
      const bool alone = *count == 1;
      if (entry.copied == alone) continue;
      entry.copied = alone;
      parts.mapping.set(view, i, entry);
      // Others may hold it by now, or no longer: asked again at the next write.
      view.slice->verified.clear();
    }
    at += view.count << g.cluster_bits;
  }
  co_return Result<void>();
}

}  // namespace

Async<bool> TreeWalk::next(TableReferences* out) {
  const Geometry& g = state_.geometry();
  for (; index_ < l1_.size(); ++index_) {
    const L1Entry entry = L1Entry::decode(l1_[index_]);
    if (entry.offset == 0) continue;
    if (!g.is_cluster_aligned(entry.offset)) {
      co_return make_error(ErrorKind::kCorrupt, "L2 table offset {:#x} unaligned (L1 index: {:#x})",
                           entry.offset, index_);
    }
    if (!seen_.insert(entry.offset).second) {
      co_return make_error(ErrorKind::kCorrupt, "L1 index {:#x} points to a table of another entry",
                           index_);
    }
    out->table = entry.offset;
    out->clusters.clear();
    out->compressed.clear();
    ++index_;
    CO_TRY_VOID(co_await read_table(out));
    co_return true;
  }
  co_return false;
}

Async<> TreeWalk::read_table(TableReferences* out) {
  const Geometry& g = state_.geometry();
  ByteRange place{out->table, g.cluster_size()};
  CO_TRY(bool hole, co_await is_hole(state_.file, place));
  if (hole) co_return Result<void>();
  words_.resize(g.cluster_size() / 8);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(words_.data()), g.cluster_size());
  CO_TRY_VOID(co_await state_.file.read_bytes(out->table, bytes));
  for (uint64_t i = 0; i < g.l2_entries(); ++i) {
    L2Entry entry = L2Entry::decode(load_l2_entry(words_.data(), i, g), g);
    if (entry.kind == ClusterKind::kInvalid) {
      co_return make_error(ErrorKind::kCorrupt,
                           "Invalid cluster entry found (L2 offset: {:#x}, L2 index: {:#x})",
                           out->table, i);
    }
    if (entry.kind == ClusterKind::kCompressed) {
      out->compressed.push_back({entry.offset, entry.compressed_length});
    } else if (entry.has_cluster() && !g.external_data) {
      if (!out->clusters.empty() && out->clusters.back().end() == entry.offset) {
        out->clusters.back().length += g.cluster_size();
      } else {
        out->clusters.push_back({entry.offset, g.cluster_size()});
      }
    }
  }
  co_return Result<void>();
}

Async<> check_tree(Image::State& state, const std::vector<uint64_t>& l1) {
  constexpr auto kTable = static_cast<uint16_t>(Area::kActiveL2);
  TreeWalk walk(state, l1);
  TableReferences refs;
  CountReader counts(state.parts->refcounts);
  while (true) {
    CO_TRY(bool more, co_await walk.next(&refs));
    if (!more) co_return Result<void>();
    const ByteRange table{refs.table, state.geometry().cluster_size()};
    CO_TRY_VOID(co_await check_ranges(state, counts, std::span(&table, 1), kTable));
    CO_TRY_VOID(co_await check_ranges(state, counts, refs.clusters, 0));
    CO_TRY_VOID(co_await check_ranges(state, counts, refs.compressed, 0));
  }
}

Async<> add_references(Image::State& state, const std::vector<uint64_t>& l1) {
  uint64_t added = 0;
  Result<void> done = co_await reference_all(state, l1, &added);
  if (!done.ok()) co_await undo_first(state, l1, added);
  co_return done;
}

Task<void> undo_references(Image::State& state, const std::vector<uint64_t>& l1) {
  return undo_first(state, l1, kEverything);
}

Async<> drop_references(Image::State& state, const std::vector<uint64_t>& l1, bool punch) {
  Parts& parts = *state.parts;
  TreeWalk walk(state, l1);
  TableReferences refs;
  while (true) {
    CO_TRY(bool more, co_await walk.next(&refs));
    if (!more) co_return Result<void>();
    CO_TRY_VOID(co_await parts.write_back.before_change());
    for (ByteRange range : refs.clusters)
      parts.allocator.free_later(range, punch);
    for (ByteRange range : refs.compressed) {
      parts.compressed.forget(range.offset);
      parts.allocator.free_later(range, false);
    }
    parts.allocator.free_later({refs.table, state.geometry().cluster_size()}, punch);
  }
}

Async<> refresh_copied(Image::State& state) {
  const Geometry& g = state.geometry();
  Parts& parts = *state.parts;
  L1Table& l1 = parts.mapping.l1();
  for (uint64_t i = 0; i < l1.size(); ++i) {
    L1Entry entry = l1.get(i);
    if (entry.offset == 0) continue;
    CO_TRY(uint64_t count, co_await parts.refcounts.get(g.cluster_index(entry.offset)));
    CO_TRY_VOID(co_await parts.write_back.before_change());
    if (entry.copied != (count == 1)) {
      entry.copied = count == 1;
      l1.set(i, entry);
    }
    ByteRange place{entry.offset, g.cluster_size()};
    CO_TRY(bool hole, co_await is_hole(state.file, place));
    if (!hole) CO_TRY_VOID(co_await refresh_table(state, i));
  }
  co_return Result<void>();
}

}  // namespace calf::qcow2
