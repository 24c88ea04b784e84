#include "block/io/io_slice.h"

#include <algorithm>
#include <cstring>

namespace calf {

IoSlice::IoSlice(std::span<const iovec> vectors) : vectors_(vectors) {
  for (const iovec& v : vectors)
    size_ += v.iov_len;
}

IoSlice IoSlice::slice(size_t offset, size_t size) const {
  assert(offset <= size_ && size <= size_ - offset);
  size_t skip = skip_ + offset;
  size_t first = 0;
  while (first < vectors_.size() && skip >= vectors_[first].iov_len) {
    skip -= vectors_[first].iov_len;
    ++first;
  }
  return IoSlice(vectors_.subspan(first), skip, size);
}

std::vector<iovec> IoSlice::to_iovecs() const {
  std::vector<iovec> out;
  out.reserve(vectors_.size());
  for_each([&](uint8_t* data, size_t size) { out.push_back({data, size}); });
  return out;
}

void IoSlice::fill(uint8_t value) const {
  for_each([&](uint8_t* data, size_t size) { std::memset(data, value, size); });
}

void IoSlice::copy_from(std::span<const uint8_t> bytes) const {
  assert(bytes.size() == size_);
  size_t done = 0;
  for_each([&](uint8_t* data, size_t size) {
    std::memcpy(data, bytes.data() + done, size);
    done += size;
  });
}

void IoSlice::copy_to(std::span<uint8_t> bytes) const {
  assert(bytes.size() == size_);
  size_t done = 0;
  for_each([&](uint8_t* data, size_t size) {
    std::memcpy(bytes.data() + done, data, size);
    done += size;
  });
}

void IoSlice::copy_from(IoSlice other) const {
  assert(other.size() == size_);
  size_t done = 0;
  for_each([&](uint8_t* data, size_t size) {
    other.slice(done, size).copy_to({data, size});
    done += size;
  });
}

bool IoSlice::is_zero() const {
  bool zero = true;
  for_each([&](uint8_t* data, size_t size) { zero = zero && is_all_zero({data, size}); });
  return zero;
}

bool IoSlice::is_aligned_to(size_t alignment) const {
  bool aligned = true;
  for_each([&](uint8_t* data, size_t size) {
    aligned = aligned && ((reinterpret_cast<uintptr_t>(data) | size) & (alignment - 1)) == 0;
  });
  return aligned;
}

bool is_all_zero(std::span<const uint8_t> bytes) {
  // The first bytes by hand, then the rest against itself shifted: memcmp is the fastest scan that
  // libc has.
  size_t head = std::min<size_t>(bytes.size(), 16);
  for (size_t i = 0; i < head; ++i) {
    if (bytes[i] != 0) return false;
  }
  return bytes.size() <= head ||
         std::memcmp(bytes.data(), bytes.data() + head, bytes.size() - head) == 0;
}

}  // namespace calf
