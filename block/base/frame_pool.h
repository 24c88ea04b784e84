// FramePool: memory for coroutine frames.
//
// A request makes a handful of frames, some above a KiB, and gives them back at once; a general
// allocator splits and joins its free blocks for each of them, which was two fifths of what a
// cached read executes. Here a thread keeps the blocks that it gave back, by size, and takes them
// again. What is larger than kLargest, and what is given back to a full class, belongs to operator
// new and delete.
//
// A block may be given back by another thread than the one that took it: it stays with that one.
// Under AddressSanitizer everything goes to operator new and delete, so that a frame used after its
// end is found.
#pragma once

#include <cstddef>

namespace calf {

class FramePool {
 public:
  static constexpr size_t kStep = 64;
  static constexpr size_t kLargest = 4096;
  // Of one class: more than the requests that are in flight at a time.
  static constexpr unsigned kKept = 256;

  // Aligned for any type that is not over-aligned. Throws std::bad_alloc.
  static void* take(size_t size);
  // `size`: as it was taken.
  static void give(void* block, size_t size) noexcept;
};

// What a promise inherits so that its coroutine's frame comes from the pool.
struct PooledFrame {
  static void* operator new(size_t size) { return FramePool::take(size); }
  static void operator delete(void* frame, size_t size) noexcept { FramePool::give(frame, size); }
};

}  // namespace calf
