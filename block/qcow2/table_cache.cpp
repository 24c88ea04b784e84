#include "block/qcow2/table_cache.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace calf::qcow2 {

TableCache::TableCache(Executor& executor, HostFile& file, uint64_t slice_size, uint64_t max_bytes)
    : file_(file),
      slice_size_(slice_size),
      max_slices_(std::max<uint64_t>(max_bytes / slice_size, 16)),
      loaded_(executor) {}

TableCache::~TableCache() {
  for (auto& [offset, slice] : slices_) {
    assert(slice->pins == 0);
    delete slice;
  }
}

SliceRef TableCache::find(uint64_t offset) {
  // A walk over the disk asks for the slice that it has just used, once for each extent.
  if (!lru_.empty() && lru_.front()->offset == offset && !lru_.front()->loading) {
    return SliceRef(lru_.front());
  }
  auto it = slices_.find(offset);
  if (it == slices_.end() || it->second->loading) return {};
  lru_.splice(lru_.begin(), lru_, it->second->lru);
  return SliceRef(it->second);
}

Async<SliceRef> TableCache::load(uint64_t offset) {
  assert(is_aligned(offset, slice_size_));
  for (;;) {
    if (SliceRef found = find(offset)) co_return found;
    if (!slices_.contains(offset)) break;
    // Somebody else reads it. If that fails we try ourselves.
    co_await loaded_.wait();
  }
  make_room();
  SliceRef slice(insert(offset));
  slice->loading = true;
  std::span<uint8_t> bytes(slice.bytes(), slice_size_);
  Result<void> done = co_await file_.read_bytes(offset, bytes);
  slice->loading = false;
  loaded_.wake_all();
  if (!done.ok()) {
    if (!slice->detached) remove(slice.get());
    co_return std::move(done.error());
  }
  co_return slice;
}

SliceRef TableCache::create(uint64_t offset) {
  drop({offset, slice_size_});
  make_room();
  SliceRef slice(insert(offset));
  std::memset(slice.bytes(), 0, slice_size_);
  mark_dirty(slice);
  return slice;
}

void TableCache::mark_dirty(const SliceRef& slice) {
  if (slice->dirty || slice->detached) return;
  slice->dirty = true;
  dirty_.emplace(slice->offset, slice.get());
}

void TableCache::drop(ByteRange range) {
  for (uint64_t at = range.offset; at < range.end(); at += slice_size_) {
    auto it = slices_.find(at);
    if (it != slices_.end()) remove(it->second);
  }
}

void TableCache::drop_all() {
  assert(dirty_.empty());
  while (!lru_.empty())
    remove(lru_.front());
}

std::vector<TableWrite> TableCache::collect() {
  std::vector<TableWrite> out;
  out.reserve(dirty_.size());
  for (auto& [offset, slice] : dirty_) {
    slice->dirty = false;
    out.push_back(
        {offset, {slice->bytes.get(), slice->bytes.get() + slice_size_}, SliceRef(slice)});
  }
  dirty_.clear();
  std::sort(out.begin(), out.end(),
            [](const TableWrite& a, const TableWrite& b) { return a.offset < b.offset; });
  return out;
}

void TableCache::restore(const std::vector<TableWrite>& writes) {
  for (const TableWrite& write : writes)
    mark_dirty(write.slice);
}

Slice* TableCache::insert(uint64_t offset) {
  auto slice = std::make_unique<Slice>();
  slice->offset = offset;
  slice->bytes = std::make_unique_for_overwrite<uint8_t[]>(slice_size_);
  lru_.push_front(slice.get());
  slice->lru = lru_.begin();
  slices_.emplace(offset, slice.get());
  return slice.release();
}

void TableCache::remove(Slice* slice) {
  slices_.erase(slice->offset);
  lru_.erase(slice->lru);
  if (slice->dirty) {
    slice->dirty = false;
    dirty_.erase(slice->offset);
  }
  slice->detached = true;
  if (slice->pins == 0) delete slice;
}

void TableCache::make_room() {
  auto it = lru_.end();
  // A short walk: what cannot go now goes next time.
  for (int tries = 0; slices_.size() >= max_slices_ && it != lru_.begin() && tries < 16; ++tries) {
    Slice* slice = *--it;
    if (slice->pins != 0 || slice->dirty || slice->loading) continue;
    ++it;
    remove(slice);
  }
}

}  // namespace calf::qcow2
