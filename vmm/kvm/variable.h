// KVM's structures that end in an array of any length: a header and its entries in one allocation.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace calf::kvm {

// All zero at first.
template <class Header, class Entry>
class Variable {
  static_assert(std::is_trivially_copyable_v<Header> && std::is_trivially_copyable_v<Entry>);
  static_assert(alignof(Header) <= alignof(std::max_align_t) &&
                sizeof(Header) % alignof(Entry) == 0);

 public:
  explicit Variable(size_t capacity)
      : words_(sizeof(Header) + capacity * sizeof(Entry) + sizeof(std::max_align_t)),
        capacity_(capacity) {}
  explicit Variable(std::span<const Entry> entries) : Variable(entries.size()) {
    if (!entries.empty()) std::memcpy(first(), entries.data(), entries.size_bytes());
  }

  Header& header() { return *reinterpret_cast<Header*>(words_.data()); }
  std::span<Entry> entries() { return {first(), capacity_}; }
  // The first `count` entries, which the kernel filled.
  std::vector<Entry> to_vector(size_t count) {
    return {first(), first() + std::min(count, capacity_)};
  }

 private:
  Entry* first() { return reinterpret_cast<Entry*>(words_.data() + sizeof(Header)); }
  std::vector<unsigned char> words_;  // operator new aligns for any of KVM's types
  size_t capacity_;
};

}  // namespace calf::kvm
