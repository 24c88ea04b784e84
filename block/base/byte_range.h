// An offset and a length in bytes, travelling as one value, and arithmetic on sizes that cannot
// overflow unnoticed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace calf {

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;

  // One past the last byte. The maker of the range guarantees that it does not overflow (see
  // make_range).
  constexpr uint64_t end() const { return offset + length; }
  constexpr bool empty() const { return length == 0; }
  constexpr bool contains(uint64_t position) const {
    return position >= offset && position - offset < length;
  }
  constexpr bool contains(ByteRange other) const {
    return other.offset >= offset && other.end() <= end();
  }
  constexpr bool overlaps(ByteRange other) const {
    return offset < other.end() && other.offset < end();
  }
  constexpr ByteRange intersect(ByteRange other) const {
    uint64_t first = std::max(offset, other.offset);
    uint64_t last = std::min(end(), other.end());
    return first < last ? ByteRange{first, last - first} : ByteRange{first, 0};
  }
  friend constexpr bool operator==(ByteRange, ByteRange) = default;
};

// A range from untrusted numbers: nothing if offset + length does not fit in 64 bits.
constexpr std::optional<ByteRange> make_range(uint64_t offset, uint64_t length) {
  if (length > UINT64_MAX - offset) return std::nullopt;
  return ByteRange{offset, length};
}

constexpr bool is_power_of_two(uint64_t n) {
  return n != 0 && (n & (n - 1)) == 0;
}

// `alignment` is a power of two.
constexpr uint64_t align_down(uint64_t n, uint64_t alignment) {
  return n & ~(alignment - 1);
}
// The caller guarantees that n + alignment does not overflow.
constexpr uint64_t align_up(uint64_t n, uint64_t alignment) {
  return (n + alignment - 1) & ~(alignment - 1);
}
constexpr bool is_aligned(uint64_t n, uint64_t alignment) {
  return (n & (alignment - 1)) == 0;
}
constexpr uint64_t div_round_up(uint64_t n, uint64_t d) {
  return n / d + (n % d != 0);
}

}  // namespace calf
