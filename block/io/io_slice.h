// A view of scattered memory: the byte range [skip, skip + size) of an iovec array.
//
// It owns neither the memory nor the array; both outlive the request that uses it. It is trivially
// copyable, so it passes through coroutines by value and cutting a request into parts allocates
// nothing.
#pragma once

#include <sys/uio.h>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace calf {

class IoSlice {
 public:
  IoSlice() = default;
  // All of `vectors`.
  explicit IoSlice(std::span<const iovec> vectors);
  // The bytes [skip, skip + size) of `vectors`, which has that many.
  IoSlice(std::span<const iovec> vectors, size_t skip, size_t size)
      : vectors_(vectors), skip_(skip), size_(size) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // The part [offset, offset + size), which lies inside.
  IoSlice slice(size_t offset, size_t size) const;

  // The iovecs of exactly this view, empty ones left out.
  std::vector<iovec> to_iovecs() const;

  void fill(uint8_t value) const;
  // `bytes` has the size of the view.
  void copy_from(std::span<const uint8_t> bytes) const;
  void copy_to(std::span<uint8_t> bytes) const;
  // Copies between views of one size.
  void copy_from(IoSlice other) const;
  bool is_zero() const;
  // True if every piece's address and length is a multiple of `alignment` (a power of two).
  bool is_aligned_to(size_t alignment) const;

  // Calls fn(uint8_t* data, size_t size) for each piece in order.
  template <class Fn>
  void for_each(Fn&& fn) const {
    size_t skip = skip_;
    size_t left = size_;
    for (const iovec& v : vectors_) {
      if (left == 0) break;
      if (skip >= v.iov_len) {
        skip -= v.iov_len;
        continue;
      }
      size_t n = v.iov_len - skip < left ? v.iov_len - skip : left;
      fn(static_cast<uint8_t*>(v.iov_base) + skip, n);
      left -= n;
      skip = 0;
    }
    assert(left == 0);
  }

 private:
  std::span<const iovec> vectors_;
  size_t skip_ = 0;
  size_t size_ = 0;
};

// One contiguous buffer as an IoSlice: the object holds the iovec, so it outlives the request.
//
//   FlatIo io(buffer);  co_await node.read(offset, io.slice());
class FlatIo {
 public:
  explicit FlatIo(std::span<uint8_t> bytes) : vector_{bytes.data(), bytes.size()} {}
  // For writes: the engine reads from, and never writes to, the memory of a write.
  explicit FlatIo(std::span<const uint8_t> bytes)
      : vector_{const_cast<uint8_t*>(bytes.data()), bytes.size()} {}
  FlatIo(const FlatIo&) = delete;
  FlatIo& operator=(const FlatIo&) = delete;
  IoSlice slice() const { return IoSlice(std::span(&vector_, 1), 0, vector_.iov_len); }

 private:
  iovec vector_;
};

// True if all bytes are zero. Works at memory speed.
bool is_all_zero(std::span<const uint8_t> bytes);

}  // namespace calf
