// BufferPool: the large buffers of a job, used again and again. Memory that comes anew from the
// host costs a page fault for each 4 KiB, which is more than copying into it.
//
// As many buffers exist as were out at the same time. One thread.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "block/io/aligned_buffer.h"

namespace calf {

class BufferPool {
 public:
  // Goes back to the pool, which outlives it, at its end.
  class Lease {
   public:
    Lease(BufferPool& pool, AlignedBuffer buffer, size_t size)
        : pool_(&pool), buffer_(std::move(buffer)), size_(size) {}
    Lease(Lease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)),
          buffer_(std::move(other.buffer_)),
          size_(other.size_) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (pool_ != nullptr) pool_->spare_.push_back(std::move(buffer_));
    }

    uint8_t* data() const { return buffer_.data(); }
    std::span<uint8_t> span() const { return {buffer_.data(), size_}; }

   private:
    BufferPool* pool_;
    AlignedBuffer buffer_;
    size_t size_;
  };

  // `usual`: what most requests are at most.
  explicit BufferPool(size_t usual) : usual_(usual) {}

  // `size` bytes, with whatever was in them.
  Lease take(size_t size) {
    AlignedBuffer buffer;
    if (!spare_.empty()) {
      buffer = std::move(spare_.back());
      spare_.pop_back();
    }
    if (buffer.size() < size) buffer = AlignedBuffer(std::max(size, usual_));
    return Lease(*this, std::move(buffer), size);
  }

 private:
  size_t usual_;
  std::vector<AlignedBuffer> spare_;
};

}  // namespace calf
