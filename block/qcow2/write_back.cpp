#include "block/qcow2/write_back.h"

#include <algorithm>
#include <cassert>
#include <unordered_set>

namespace calf::qcow2 {
namespace {

constexpr uint64_t kMaxWriteBytes = uint64_t{1} << 20;
constexpr size_t kMaxWritesInFlight = 32;

Async<> write_owned(HostFile& file, uint64_t offset, std::vector<uint8_t> bytes) {
  co_return co_await file.write_bytes(offset, bytes);
}

}  // namespace

// Copies of everything that was dirty when the run began.
struct WriteBack::Batch {
  std::vector<Refcounts::TableEntryWrite> links;
  std::vector<TableWrite> counts;
  std::vector<TableWrite> l2;
  std::vector<L1Table::Write> l1;
  std::unordered_set<uint64_t> new_tables;
  std::vector<Allocator::Freed> freed;
};

WriteBack::WriteBack(Executor& executor, HostFile& file, HeaderFile& header, Refcounts& refcounts,
                     Allocator& allocator, Mapping& mapping, MetadataMap& map, Health& health,
                     AsyncMutex& order)
    : executor_(executor),
      file_(file),
      header_(header),
      refcounts_(refcounts),
      allocator_(allocator),
      mapping_(mapping),
      map_(map),
      health_(health),
      order_(order),
      dirty_mutex_(executor) {}

bool WriteBack::lazy() const {
  return (header_.get().compatible & format::kLazyRefcounts) != 0 &&
         header_.get().geometry.version >= 3;
}

Async<> WriteBack::flush() {
  co_return co_await run(!lazy());
}

Async<> WriteBack::set_dirty_bit() {
  if (header_.get().has(format::kDirty)) co_return Result<void>();
  AsyncMutex::Guard guard = co_await dirty_mutex_.lock();
  if (header_.get().has(format::kDirty)) co_return Result<void>();
  std::function<void(Header&)> change = [](Header& h) { h.incompatible |= format::kDirty; };
  CO_TRY_VOID(co_await header_.update(change));
  co_return co_await file_.flush();
}

Async<> WriteBack::unsettle() {
  if (header_.get().geometry.version >= 3) CO_TRY_VOID(co_await set_dirty_bit());
  ++unsettled_;
  co_return Result<void>();
}

Async<> WriteBack::settle() {
  --unsettled_;
  co_return co_await finish();
}

Async<> WriteBack::before_change() {
  if (lazy()) CO_TRY_VOID(co_await set_dirty_bit());
  if (mapping_.cache().over_dirty_limit() || refcounts_.cache().over_dirty_limit() ||
      allocator_.over_limit()) {
    CO_TRY_VOID(co_await run(true));
  }
  co_return Result<void>();
}

Async<> WriteBack::finish() {
  // The second run writes the refcounts that the first one's frees dropped.
  CO_TRY_VOID(co_await run(true));
  CO_TRY_VOID(co_await run(true));
  if (header_.get().has(format::kDirty) && unsettled_ == 0) {
    std::function<void(Header&)> change = [](Header& h) { h.incompatible &= ~format::kDirty; };
    CO_TRY_VOID(co_await header_.update(change));
    CO_TRY_VOID(co_await file_.flush());
  }
  co_return Result<void>();
}

Async<> WriteBack::run(bool with_refcounts) {
  const uint64_t arrival = started_;
  Batch batch;
  {
    AsyncMutex::Guard guard = co_await order_.lock();
    // A run that began after we came has written all that we came for.
    if (finished_ > arrival && !with_refcounts) co_return Result<void>();
    if (finished_ > arrival && !lazy()) co_return Result<void>();
    if (health_.poisoned()) {
      co_return make_error(ErrorKind::kCorrupt,
                           "The image was found damaged and is not written any more");
    }
    const uint64_t ticket = ++started_;
    batch.links = refcounts_.collect_links();
    if (with_refcounts || !batch.links.empty()) batch.counts = refcounts_.cache().collect();
    batch.l2 = mapping_.cache().collect();
    batch.l1 = mapping_.l1().collect();
    batch.new_tables = mapping_.take_unpublished();
    batch.freed = allocator_.take_freed();

    Result<void> done = check(batch);
    if (done.ok()) done = co_await write_stages(batch);
    if (!done.ok()) {
      restore(batch);
      cautious_ = true;
      co_return std::move(done.error());
    }
    cautious_ = false;
    finished_ = ticket;
  }
  std::vector<Allocator::Freed> freed = std::move(batch.freed);
  batch = {};
  co_await allocator_.apply(std::move(freed), mapping_.cache());
  co_return Result<void>();
}

// Metadata, too, is written only where its kind belongs.
Result<void> WriteBack::check(const Batch& batch) const {
  const uint64_t slice = mapping_.cache().slice_size();
  auto clash = [&](uint64_t offset, uint64_t length, Area own) {
    return map_.find({offset, length}, static_cast<uint16_t>(own));
  };
  uint16_t areas = 0;
  for (const TableWrite& write : batch.l2)
    areas |= clash(write.offset, slice, Area::kActiveL2);
  for (const TableWrite& write : batch.counts)
    areas |= clash(write.offset, slice, Area::kRefcountBlock);
  for (const L1Table::Write& write : batch.l1)
    areas |= clash(write.offset, write.bytes.size(), Area::kActiveL1);
  if (areas != 0) {
    return health_.fatal(
        fmt::format("Preventing invalid write on metadata (overlaps with {})", area_name(areas)));
  }
  return {};
}

Async<> WriteBack::write_stages(Batch& batch) {
  const Geometry& g = refcounts_.geometry();
  std::unordered_set<uint64_t> new_blocks;
  for (const auto& link : batch.links)
    new_blocks.insert(link.value);

  std::vector<const TableWrite*> new_counts, counts, early, late;
  for (const TableWrite& write : batch.counts)
    (new_blocks.contains(g.cluster_start(write.offset)) ? new_counts : counts).push_back(&write);
  for (const TableWrite& write : batch.l2) {
    bool unseen = !cautious_ && batch.new_tables.contains(g.cluster_start(write.offset));
    (unseen ? early : late).push_back(&write);
  }

  // 1
  if (!new_counts.empty()) {
    CO_TRY_VOID(co_await write_tables(new_counts));
    CO_TRY_VOID(co_await file_.flush());
  }
  // 2
  std::vector<Refcounts::TableEntryWrite> links = batch.links;
  CO_TRY_VOID(co_await write_links(std::move(links)));
  CO_TRY_VOID(co_await write_tables(counts));
  CO_TRY_VOID(co_await write_tables(early));
  if (data_ != nullptr) CO_TRY_VOID(co_await data_->flush());
  CO_TRY_VOID(co_await file_.flush());
  if (late.empty() && batch.l1.empty()) co_return Result<void>();
  // 3
  CO_TRY_VOID(co_await write_tables(late));
  if (cautious_) CO_TRY_VOID(co_await file_.flush());
  // 4
  for (const L1Table::Write& write : batch.l1)
    CO_TRY_VOID(co_await file_.write_bytes(write.offset, write.bytes));
  co_return co_await file_.flush();
}

// In rounds: an entry whose block is counted by one that has no entry yet waits for the next. Most
// blocks count themselves, and there is one round.
Async<> WriteBack::write_links(std::vector<Refcounts::TableEntryWrite> links) {
  const Geometry& g = refcounts_.geometry();
  std::unordered_set<uint64_t> missing;
  for (const auto& link : links)
    missing.insert(link.index);
  while (!links.empty()) {
    const auto waiting = std::partition(links.begin(), links.end(), [&](const auto& link) {
      const uint64_t counted_by = g.cluster_index(link.value) >> g.refcount_block_bits();
      return counted_by == link.index || !missing.contains(counted_by);
    });
    // Blocks that count each other in a circle are never made (Allocator::cover_run).
    assert(waiting != links.begin());
    for (auto link = links.begin(); link != waiting; ++link) {
      be64 raw = link->value;
      std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(&raw), sizeof raw);
      CO_TRY_VOID(co_await file_.write_bytes(refcounts_.table_offset() + link->index * 8, bytes));
      missing.erase(link->index);
    }
    links.erase(links.begin(), waiting);
    if (!links.empty()) CO_TRY_VOID(co_await file_.flush());
  }
  co_return Result<void>();
}

// Neighbours go in one write.
Async<> WriteBack::write_tables(const std::vector<const TableWrite*>& writes) {
  std::vector<Async<>> tasks;
  for (size_t i = 0; i < writes.size();) {
    uint64_t offset = writes[i]->offset;
    std::vector<uint8_t> bytes = writes[i]->bytes;
    for (++i; i < writes.size() && writes[i]->offset == offset + bytes.size() &&
              bytes.size() < kMaxWriteBytes;
         ++i) {
      bytes.insert(bytes.end(), writes[i]->bytes.begin(), writes[i]->bytes.end());
    }
    tasks.push_back(write_owned(file_, offset, std::move(bytes)));
    if (tasks.size() == kMaxWritesInFlight) {
      std::vector<Async<>> full = std::exchange(tasks, {});
      CO_TRY_VOID(co_await all_succeed(executor_, std::move(full)));
    }
  }
  if (!tasks.empty()) CO_TRY_VOID(co_await all_succeed(executor_, std::move(tasks)));
  co_return Result<void>();
}

void WriteBack::restore(Batch& batch) {
  refcounts_.restore_links(batch.links);
  refcounts_.cache().restore(batch.counts);
  mapping_.cache().restore(batch.l2);
  mapping_.l1().restore(batch.l1);
  allocator_.restore_freed(std::move(batch.freed));
}

}  // namespace calf::qcow2
