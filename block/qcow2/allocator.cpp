#include "block/qcow2/allocator.h"

#include <algorithm>
#include <cassert>

namespace calf::qcow2 {
namespace {

Error file_too_large() {
  return Error::from_errno(EFBIG, "The image file has reached the largest size of its format");
}

}  // namespace

Allocator::Allocator(Executor& executor, HostFile& file, HeaderFile& header, Refcounts& refcounts,
                     MetadataMap& map, Health& health, AsyncMutex& order)
    : file_(file),
      header_(header),
      refcounts_(refcounts),
      map_(map),
      health_(health),
      order_(order),
      geometry_(refcounts.geometry()),
      mutex_(executor),
      untouched_from_(align_up(file.size(), geometry_.cluster_size())) {}

// The first free clusters from `from`: at least `min`, at most `max`, contiguous.
Async<Allocator::Run> Allocator::find_run(uint64_t from, uint64_t min, uint64_t max) {
  const uint64_t limit = geometry_.cluster_index(format::kMaxHostOffset);
  const uint64_t per_block = geometry_.refcounts_per_block();
  Run run{from, 0};
  uint64_t at = from;
  while (run.count < max) {
    if (at >= limit) {
      if (run.count >= min && run.count != 0) break;
      co_return file_too_large();
    }
    if (!refcounts_.covered(at)) {
      uint64_t n = std::min(align_up(at + 1, per_block) - at, max - run.count);
      run.count += n;
      at += n;
      continue;
    }
    CO_TRY(Refcounts::Place place, co_await refcounts_.place(at));
    for (uint64_t i = place.index; i < refcounts_.counts_per_slice() && run.count < max;
         ++i, ++at) {
      if (get_count(place.slice.bytes(), i, geometry_.refcount_order) == 0) {
        ++run.count;
        continue;
      }
      if (run.count >= min) co_return run;
      run = {at + 1, 0};
    }
  }
  co_return run;
}

Result<void> Allocator::check_fresh(Run run, std::string_view what) {
  if (run.first == 0) {
    return health_.fatal(fmt::format("Preventing invalid allocation of {} at offset 0", what));
  }
  ByteRange range{run.first << geometry_.cluster_bits, run.count << geometry_.cluster_bits};
  uint16_t areas = map_.find(range);
  if (areas != 0) {
    return health_.fatal(
        fmt::format("Preventing invalid write on metadata (overlaps with {})", area_name(areas)));
  }
  untouched_from_ = std::max(untouched_from_, range.end());
  return {};
}

// Gives `cluster` a refcount block, which takes that very cluster as its place.
Async<> Allocator::cover(uint64_t cluster) {
  uint64_t table_index = cluster >> geometry_.refcount_block_bits();
  if (table_index >= refcounts_.table().size()) co_return co_await grow_table(table_index);
  co_return co_await add_block(table_index, cluster);
}

// A refcount block for entry `table_index` of the table. `cluster`, its place, is free; this block
// counts it, or another.
Async<> Allocator::add_block(uint64_t table_index, uint64_t cluster) {
  Run run{cluster, 1};
  CO_TRY_VOID(check_fresh(run, "refcount block"));
  uint64_t offset = cluster << geometry_.cluster_bits;
  refcounts_.link_new_block(table_index, offset);
  map_.add_table(Area::kRefcountBlock, offset);
  co_return co_await refcounts_.set(cluster, 1);
}

// Gives every cluster of `run`, which is free, a refcount block. The blocks stand behind the run,
// so that it stays in one piece however many it takes: where their places have no block either, one
// is made that counts itself, as in cover(). After a longer table was needed, the run is to be
// looked for again.
Async<> Allocator::cover_run(Run run) {
  const unsigned bits = geometry_.refcount_block_bits();
  const uint64_t last = (run.first + run.count - 1) >> bits;
  uint64_t at = run.first + run.count;
  for (uint64_t index = run.first >> bits; index <= last;) {
    if (at >> bits >= refcounts_.table().size()) {
      const uint64_t end = refcounts_.table().size() << bits;
      co_return co_await grow_table((end + 2 * run.count) >> bits);
    }
    if (refcounts_.covered(index << bits)) {
      ++index;
      continue;
    }
    if (!refcounts_.covered(at)) {
      CO_TRY_VOID(co_await cover(at));
    }
    CO_TRY(uint64_t count, co_await refcounts_.get(at));
    // The place may have been the one that was missing.
    if (count == 0 && !refcounts_.covered(index << bits)) {
      CO_TRY_VOID(co_await add_block(index, at));
    }
    ++at;
  }
  co_return Result<void>();
}

// A longer refcount table, behind everything that the old one covers, together with the blocks that
// count it. Everything is durable before the header points there: a crash before leaves the old
// table, a crash after the new one.
Async<> Allocator::grow_table(uint64_t table_index) {
  const uint64_t old_entries = refcounts_.table().size();
  const uint64_t base = old_entries << geometry_.refcount_block_bits();
  uint64_t entries = std::max(table_index + 1, old_entries + old_entries / 2);
  uint64_t table_clusters = 0;
  uint64_t blocks = 0;
  for (;;) {
    table_clusters = geometry_.clusters_for(entries * 8);
    blocks = 1;
    while (blocks * geometry_.refcounts_per_block() < table_clusters + blocks)
      ++blocks;
    if (old_entries + blocks <= entries) break;
    entries = old_entries + blocks;
  }
  if (table_clusters << geometry_.cluster_bits > format::kMaxRefcountTableBytes ||
      base + table_clusters + blocks > geometry_.cluster_index(format::kMaxHostOffset)) {
    co_return file_too_large();
  }
  Run run{base, table_clusters + blocks};
  CO_TRY_VOID(check_fresh(run, "refcount table"));

  // Nobody else may write table entries meanwhile.
  AsyncMutex::Guard guard = co_await order_.lock();
  const uint64_t table_offset = base << geometry_.cluster_bits;
  const uint64_t blocks_offset = table_offset + (table_clusters << geometry_.cluster_bits);
  std::vector<uint8_t> counts(blocks << geometry_.cluster_bits);
  for (uint64_t i = 0; i < run.count; ++i)
    set_count(counts.data(), i, geometry_.refcount_order, 1);
  CO_TRY_VOID(co_await file_.write_bytes(blocks_offset, counts));

  std::vector<uint8_t> bytes(table_clusters << geometry_.cluster_bits);
  auto* raw = reinterpret_cast<be64*>(bytes.data());
  for (uint64_t i = 0; i < old_entries; ++i) {
    // Blocks that are not in the file yet are linked by WriteBack, as before.
    uint64_t block = refcounts_.table()[i];
    raw[i] = refcounts_.is_unlinked(block) ? 0 : block;
  }
  for (uint64_t i = 0; i < blocks; ++i)
    raw[old_entries + i] = blocks_offset + (i << geometry_.cluster_bits);
  CO_TRY_VOID(co_await file_.write_bytes(table_offset, bytes));
  CO_TRY_VOID(co_await file_.flush());

  std::function<void(Header&)> change = [=](Header& header) {
    header.refcount_table_offset = table_offset;
    header.refcount_table_clusters = static_cast<uint32_t>(table_clusters);
  };
  const uint64_t old_offset = refcounts_.table_offset();
  CO_TRY_VOID(co_await header_.update(change));
  refcounts_.table_moved(table_offset, table_clusters);
  for (uint64_t i = 0; i < blocks; ++i) {
    uint64_t offset = blocks_offset + (i << geometry_.cluster_bits);
    refcounts_.adopt_block(old_entries + i, offset);
    map_.add_table(Area::kRefcountBlock, offset);
  }
  map_.remove_area(Area::kRefcountTable, old_offset);
  map_.add_area(Area::kRefcountTable, {table_offset, table_clusters << geometry_.cluster_bits});
  map_.seal();
  // The header is durable with the next WriteBack, before this is applied.
  free_later({old_offset, old_entries * 8}, false);
  co_return Result<void>();
}

Async<> Allocator::set_all(Run run, uint64_t value) {
  for (uint64_t i = 0; i < run.count;) {
    CO_TRY(Refcounts::Place at, co_await refcounts_.place(run.first + i));
    const uint64_t n = std::min(refcounts_.counts_per_slice() - at.index, run.count - i);
    set_counts(at.slice.bytes(), at.index, n, geometry_.refcount_order, value);
    i += n;
    refcounts_.cache().mark_dirty(at.slice);
  }
  co_return Result<void>();
}

// Finds and marks. Holds the lock: callers have it.
Async<Allocator::Run> Allocator::take(uint64_t min, uint64_t max, std::string_view what) {
  for (;;) {
    CO_TRY(Run run, co_await find_run(hint_, min, max));
    uint64_t covered = 0;
    const uint64_t per_block = geometry_.refcounts_per_block();
    while (covered < run.count && refcounts_.covered(run.first + covered))
      covered = align_down(run.first + covered, per_block) + per_block - run.first;
    covered = std::min(covered, run.count);
    if (covered < min) {
      Result<void> made;
      if (min == 1) {
        made = co_await cover(run.first);
      } else {
        made = co_await cover_run(run);
      }
      CO_TRY_VOID(std::move(made));
      continue;
    }
    run.count = covered;
    CO_TRY_VOID(check_fresh(run, what));
    CO_TRY_VOID(co_await set_all(run, 1));
    if (min == 1) hint_ = run.first + run.count;
    co_return run;
  }
}

Async<Allocator::Allocation> Allocator::allocate(uint64_t max_clusters, std::string_view what) {
  AsyncMutex::Guard guard = co_await mutex_.lock();
  const uint64_t untouched = untouched_from_;
  CO_TRY(Run run, co_await take(1, max_clusters, what));
  Allocation out;
  out.range = {run.first << geometry_.cluster_bits, run.count << geometry_.cluster_bits};
  out.fresh = out.range.offset >= untouched;
  co_return out;
}

Async<uint64_t> Allocator::allocate_contiguous(uint64_t clusters, std::string_view what) {
  AsyncMutex::Guard guard = co_await mutex_.lock();
  CO_TRY(Run run, co_await take(clusters, clusters, what));
  co_return run.first << geometry_.cluster_bits;
}

bool Allocator::add_reference(const Refcounts::Place& at) {
  const uint64_t count = get_count(at.slice.bytes(), at.index, geometry_.refcount_order);
  // Refcounts saturate: with 1-bit counts every compressed cluster starts a new host cluster.
  if (count == 0 || count >= geometry_.max_refcount()) return false;
  set_count(at.slice.bytes(), at.index, geometry_.refcount_order, count + 1);
  refcounts_.cache().mark_dirty(at.slice);
  return true;
}

Async<bool> Allocator::add_reference(uint64_t cluster) {
  if (!refcounts_.covered(cluster)) co_return false;
  CO_TRY(Refcounts::Place at, co_await refcounts_.place(cluster));
  co_return add_reference(at);
}

Async<uint64_t> Allocator::allocate_bytes(uint64_t length) {
  assert(length != 0 && length < geometry_.cluster_size());
  AsyncMutex::Guard guard = co_await mutex_.lock();
  uint64_t room = packed_ == 0 ? 0 : geometry_.cluster_size() - geometry_.in_cluster(packed_);
  if (room >= length) {
    CO_TRY(bool added, co_await add_reference(geometry_.cluster_index(packed_)));
    if (!added) room = 0;
  }
  if (room < length) {
    CO_TRY(Run run, co_await take(1, 1, "compressed cluster"));
    uint64_t fresh = run.first << geometry_.cluster_bits;
    bool joined = false;
    if (room != 0 && packed_ + room == fresh) {
      CO_TRY(joined, co_await add_reference(geometry_.cluster_index(packed_)));
    }
    if (!joined) packed_ = fresh;
  }
  uint64_t offset = packed_;
  packed_ += length;
  if (geometry_.in_cluster(packed_) == 0) packed_ = 0;
  co_return offset;
}

Async<bool> Allocator::drop_reference(uint64_t cluster) {
  std::optional<Refcounts::Place> at = refcounts_.find(cluster);
  if (!at && refcounts_.covered(cluster)) {
    CO_TRY(at, co_await refcounts_.place(cluster));
  }
  const unsigned order = geometry_.refcount_order;
  const uint64_t count = at ? get_count(at->slice.bytes(), at->index, order) : 0;
  if (count == 0) {
    co_return health_.fatal(fmt::format("Refcount of cluster {:#x} would become negative",
                                        cluster << geometry_.cluster_bits));
  }
  set_count(at->slice.bytes(), at->index, order, count - 1);
  refcounts_.cache().mark_dirty(at->slice);
  if (count != 1) co_return false;
  hint_ = std::min(hint_, cluster);
  if (packed_ != 0 && geometry_.cluster_index(packed_) == cluster) packed_ = 0;
  co_return true;
}

// All of it or, on error, nothing.
Async<> Allocator::reference_range(ByteRange range) {
  const uint64_t first = geometry_.cluster_index(range.offset);
  const uint64_t last = geometry_.cluster_index(range.end() - 1);
  for (uint64_t cluster = first; cluster <= last; ++cluster) {
    Result<bool> added = co_await add_reference(cluster);
    if (added.ok() && *added) continue;
    while (cluster-- > first) {
      Result<bool> dropped = co_await drop_reference(cluster);
      if (!dropped.ok()) break;
    }
    if (!added.ok()) co_return std::move(added.error());
    co_return make_error(ErrorKind::kInvalid,
                         "A cluster cannot be shared once more with reference counts of {} bits",
                         geometry_.refcount_bits());
  }
  co_return Result<void>();
}

Async<> Allocator::reference(std::span<const ByteRange> ranges, uint64_t* done) {
  AsyncMutex::Guard guard = co_await mutex_.lock();
  for (ByteRange range : ranges) {
    // Of a fragmented image nearly every range is one cluster, whose count is in memory.
    const bool one =
        range.length == geometry_.cluster_size() && geometry_.is_cluster_aligned(range.offset);
    const std::optional<Refcounts::Place> at =
        one ? refcounts_.find(geometry_.cluster_index(range.offset)) : std::nullopt;
    if (!at || !add_reference(*at)) CO_TRY_VOID(co_await reference_range(range));
    ++*done;
  }
  co_return Result<void>();
}

Task<void> Allocator::undo(ByteRange range) {
  AsyncMutex::Guard guard = co_await mutex_.lock();
  uint64_t last = geometry_.cluster_index(range.end() - 1);
  for (uint64_t cluster = geometry_.cluster_index(range.offset); cluster <= last; ++cluster) {
    Result<bool> dropped = co_await drop_reference(cluster);
    if (!dropped.ok()) co_return;
  }
}

void Allocator::free_later(ByteRange range, bool punch) {
  // Neighbours freed by one request become one entry.
  if (!freed_.empty() && freed_.back().punch == punch &&
      freed_.back().range.end() == range.offset && geometry_.is_cluster_aligned(range.offset)) {
    freed_.back().range.length += range.length;
    return;
  }
  freed_.push_back({range, punch});
}

void Allocator::restore_freed(std::vector<Freed> freed) {
  freed_.insert(freed_.begin(), freed.begin(), freed.end());
}

Task<void> Allocator::apply(std::vector<Freed> freed, TableCache& l2_cache) {
  for (const Freed& entry : freed) {
    const uint64_t first = geometry_.cluster_index(entry.range.offset);
    const uint64_t last = geometry_.cluster_index(entry.range.end() - 1);
    // The punch comes first, while the cluster still counts as used: once it could be handed out
    // again, the hole would eat new data. Clusters that others use, too, are left alone.
    for (uint64_t cluster = first; entry.punch && cluster <= last;) {
      uint64_t end = cluster;
      for (; end <= last; ++end) {
        Result<uint64_t> count = co_await refcounts_.get(end);
        if (!count.ok() || *count != 1) break;
      }
      if (end > cluster) {
        ByteRange hole{cluster << geometry_.cluster_bits, (end - cluster)
                                                              << geometry_.cluster_bits};
        // A hole is a favour to the host: failing to punch it costs space only.
        Result<void> punched = co_await file_.discard(hole);
        (void)punched;
      }
      cluster = std::max(end, cluster + 1);
    }
    AsyncMutex::Guard guard = co_await mutex_.lock();
    for (uint64_t cluster = first; cluster <= last; ++cluster) {
      Result<bool> free = co_await drop_reference(cluster);
      // What cannot be counted down leaks; the message has been given.
      if (!free.ok()) continue;
      if (*free) {
        ByteRange bytes{cluster << geometry_.cluster_bits, geometry_.cluster_size()};
        l2_cache.drop(bytes);
      }
    }
  }
}

// True for a block whose counts are all 0; its own may be more, if it counts itself.
Async<bool> Allocator::counts_nothing(uint64_t table_index) {
  const uint64_t first = table_index << geometry_.refcount_block_bits();
  const uint64_t own = geometry_.cluster_index(refcounts_.table()[table_index]);
  const uint64_t count = refcounts_.counts_per_slice();
  for (uint64_t at = 0; at < geometry_.refcounts_per_block(); at += count) {
    CO_TRY(Refcounts::Place place, co_await refcounts_.place(first + at));
    for (uint64_t i = 0; i < count; ++i) {
      if (get_count(place.slice.bytes(), i, geometry_.refcount_order) == 0) continue;
      if (first + at + i != own) co_return false;
    }
  }
  co_return true;
}

// From the table first, durably; a crash then leaks the blocks' clusters.
Async<> Allocator::drop_blocks(std::vector<uint64_t> table_indices) {
  AsyncMutex::Guard guard = co_await order_.lock();
  const be64 none = 0;
  std::span<const uint8_t> zero(reinterpret_cast<const uint8_t*>(&none), sizeof none);
  for (uint64_t index : table_indices)
    CO_TRY_VOID(co_await file_.write_bytes(refcounts_.table_offset() + index * 8, zero));
  CO_TRY_VOID(co_await file_.flush());
  for (uint64_t index : table_indices) {
    const ByteRange block{refcounts_.table()[index], geometry_.cluster_size()};
    const uint64_t cluster = geometry_.cluster_index(block.offset);
    map_.remove_table(Area::kRefcountBlock, block.offset);
    refcounts_.drop_block(index);
    if (refcounts_.covered(cluster)) CO_TRY_VOID(co_await drop_reference(cluster));
    hint_ = std::min(hint_, cluster);
    // A hole is a favour to the host: failing to punch it costs space only.
    Result<void> punched = co_await file_.discard(block);
    (void)punched;
  }
  co_return Result<void>();
}

Async<> Allocator::drop_empty_blocks() {
  AsyncMutex::Guard guard = co_await mutex_.lock();
  for (;;) {
    std::vector<uint64_t> empty;
    // The first one counts the header.
    for (uint64_t i = 1; i < refcounts_.table().size(); ++i) {
      const uint64_t block = refcounts_.table()[i];
      if (block == 0 || refcounts_.is_unlinked(block)) continue;
      CO_TRY(bool nothing, co_await counts_nothing(i));
      if (nothing) empty.push_back(i);
    }
    if (empty.empty()) co_return Result<void>();
    // One that is gone may have been all that another one counted.
    CO_TRY_VOID(co_await drop_blocks(std::move(empty)));
  }
}

}  // namespace calf::qcow2
