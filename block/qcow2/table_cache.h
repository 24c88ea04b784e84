// TableCache: slices of L2 tables and refcount blocks in memory.
//
// A slice is 4 KiB (a whole cluster if that is smaller), keyed by its host offset. A dirty slice is
// never evicted and never written by the cache: WriteBack collects copies of all dirty slices and
// writes them in the order that crashes demand. A slice whose copy is on its way stays pinned, so
// nobody reads the old bytes back from the file.
//
//     load ──> clean <──> dirty ──collect──> clean, pinned until written
//                │
//             evicted, least recently used first
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "block/base/endian.h"
#include "block/io/sync.h"
#include "block/qcow2/host_file.h"

namespace calf::qcow2 {

class TableCache;

// One slice in memory. Handled through SliceRef.
struct Slice {
  uint64_t offset = 0;
  std::unique_ptr<uint8_t[]> bytes;
  uint32_t pins = 0;
  bool loading = false;
  bool dirty = false;
  // Dropped from the cache while pinned: freed with the last pin, never written.
  bool detached = false;
  // One bit an entry: data may be overwritten in place, refcount and overlap were checked.
  std::vector<bool> verified;
  std::list<Slice*>::iterator lru;
};

// Keeps a slice in memory. Movable; empty after a move.
class SliceRef {
 public:
  SliceRef() = default;
  explicit SliceRef(Slice* slice) : slice_(slice) { ++slice_->pins; }
  SliceRef(SliceRef&& other) noexcept : slice_(std::exchange(other.slice_, nullptr)) {}
  SliceRef& operator=(SliceRef&& other) noexcept {
    if (this != &other) {
      reset();
      slice_ = std::exchange(other.slice_, nullptr);
    }
    return *this;
  }
  SliceRef(const SliceRef& other) : slice_(other.slice_) {
    if (slice_ != nullptr) ++slice_->pins;
  }
  SliceRef& operator=(const SliceRef& other) { return *this = SliceRef(other); }
  ~SliceRef() { reset(); }

  explicit operator bool() const { return slice_ != nullptr; }
  Slice* operator->() const { return slice_; }
  Slice* get() const { return slice_; }
  uint8_t* bytes() const { return slice_->bytes.get(); }
  be64* words() const { return reinterpret_cast<be64*>(slice_->bytes.get()); }

 private:
  void reset() {
    if (slice_ == nullptr) return;
    if (--slice_->pins == 0 && slice_->detached) delete slice_;
    slice_ = nullptr;
  }
  Slice* slice_ = nullptr;
};

// A copy of dirty bytes on their way to the file.
struct TableWrite {
  uint64_t offset = 0;
  std::vector<uint8_t> bytes;
  SliceRef slice;
};

class TableCache {
 public:
  TableCache(Executor& executor, HostFile& file, uint64_t slice_size, uint64_t max_bytes);
  ~TableCache();
  TableCache(const TableCache&) = delete;
  TableCache& operator=(const TableCache&) = delete;

  uint64_t slice_size() const { return slice_size_; }

  // `offset` is a multiple of the slice size. Null if the slice is not in memory (yet).
  SliceRef find(uint64_t offset);
  // From memory or the file.
  Async<SliceRef> load(uint64_t offset);
  // A slice of zeroes, dirty, for a table that is new. Whatever was cached there is dropped.
  SliceRef create(uint64_t offset);
  void mark_dirty(const SliceRef& slice);
  // Forgets the slices of a table that is no more.
  void drop(ByteRange range);
  // Forgets all of them; none is dirty.
  void drop_all();

  // Copies of all dirty slices, by offset; they are clean from now on.
  std::vector<TableWrite> collect();
  // The writes did not (all) happen.
  void restore(const std::vector<TableWrite>& writes);

  size_t dirty_count() const { return dirty_.size(); }
  bool over_dirty_limit() const { return dirty_.size() > max_slices_ / 2; }

 private:
  Slice* insert(uint64_t offset);
  void remove(Slice* slice);
  void make_room();

  HostFile& file_;
  uint64_t slice_size_;
  uint64_t max_slices_;
  std::unordered_map<uint64_t, Slice*> slices_;
  std::list<Slice*> lru_;  // most recently used first
  std::unordered_map<uint64_t, Slice*> dirty_;
  WaitQueue loaded_;
};

}  // namespace calf::qcow2
