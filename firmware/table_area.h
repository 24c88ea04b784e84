// An area of guest memory that firmware tables are put into, one behind the other, and the bytes
// that go to guest memory in the end.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "block/base/byte_range.h"
#include "block/base/result.h"
#include "devices/core/guest_memory.h"

namespace calf::firmware {

// Bytes and the guest-physical address where they belong.
struct PlacedBytes {
  devices::Gpa address;
  std::vector<uint8_t> bytes;
};

class TableArea {
 public:
  explicit TableArea(ByteRange area) : area_(area) {}

  // Where the next place() with this alignment (a power of two) will put its bytes.
  devices::Gpa next(uint64_t alignment) const {
    return devices::Gpa{align_up(area_.offset + bytes_.size(), alignment)};
  }

  // kResource if the area is full; `what` names the table in the text.
  Result<devices::Gpa> place(std::string_view what, std::span<const uint8_t> table,
                             uint64_t alignment = 16) {
    devices::Gpa address = next(alignment);
    uint64_t offset = raw(address) - area_.offset;
    if (offset > area_.length || table.size() > area_.length - offset) {
      return make_error(ErrorKind::kResource,
                        "{}: {} bytes do not fit into the {} bytes at {:#x} that are kept for "
                        "firmware tables",
                        what, table.size(), area_.length, area_.offset);
    }
    bytes_.resize(offset);
    bytes_.insert(bytes_.end(), table.begin(), table.end());
    return address;
  }

  // For a table that points to those behind it: replaces bytes that were placed before.
  void overwrite(devices::Gpa address, std::span<const uint8_t> table) {
    uint64_t offset = raw(address) - area_.offset;
    assert(offset <= bytes_.size() && table.size() <= bytes_.size() - offset);
    std::ranges::copy(table, bytes_.begin() + static_cast<ptrdiff_t>(offset));
  }

  PlacedBytes take() && { return {devices::Gpa{area_.offset}, std::move(bytes_)}; }

 private:
  ByteRange area_;
  std::vector<uint8_t> bytes_;
};

// The byte that makes all bytes of a table sum to zero, its checksum field being zero now.
inline uint8_t checksum_of(std::span<const uint8_t> bytes) {
  uint8_t sum = 0;
  for (uint8_t byte : bytes)
    sum = static_cast<uint8_t>(sum + byte);
  return static_cast<uint8_t>(-sum);
}

template <class T>
std::span<const uint8_t> bytes_of(const T& object) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const uint8_t*>(&object), sizeof object};
}

}  // namespace calf::firmware
