// Integers that store their bytes in a named order, at any alignment.
//
// A field of an on-disk or on-wire structure is declared as be32, le64, …; reading and assigning
// converts. Nothing else in the tree swaps bytes. Structures made of these have alignment 1 and no
// padding, so their layout is what is written down.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace calf {

template <class T, std::endian Order>
class Ordered {
 public:
  using value_type = T;
  constexpr Ordered() = default;
  constexpr Ordered(T value) { store(value); }
  constexpr Ordered& operator=(T value) {
    store(value);
    return *this;
  }
  constexpr operator T() const { return load(); }
  constexpr T value() const { return load(); }

  constexpr Ordered& operator+=(T v) { return *this = static_cast<T>(load() + v); }
  constexpr Ordered& operator-=(T v) { return *this = static_cast<T>(load() - v); }
  constexpr Ordered& operator|=(T v) { return *this = static_cast<T>(load() | v); }
  constexpr Ordered& operator&=(T v) { return *this = static_cast<T>(load() & v); }

 private:
  // Compilers turn these loops into one load or store, with a swap where needed.
  constexpr T load() const {
    T value = 0;
    for (unsigned i = 0; i < sizeof(T); ++i) {
      value = static_cast<T>(value | static_cast<T>(static_cast<T>(bytes_[i]) << shift(i)));
    }
    return value;
  }
  constexpr void store(T value) {
    for (unsigned i = 0; i < sizeof(T); ++i)
      bytes_[i] = static_cast<uint8_t>(value >> shift(i));
  }
  static constexpr unsigned shift(unsigned i) {
    return 8 * (Order == std::endian::little ? i : static_cast<unsigned>(sizeof(T)) - 1 - i);
  }

  uint8_t bytes_[sizeof(T)] = {};
};

using le16 = Ordered<uint16_t, std::endian::little>;
using le32 = Ordered<uint32_t, std::endian::little>;
using le64 = Ordered<uint64_t, std::endian::little>;
using be16 = Ordered<uint16_t, std::endian::big>;
using be32 = Ordered<uint32_t, std::endian::big>;
using be64 = Ordered<uint64_t, std::endian::big>;

static_assert(sizeof(be64) == 8 && alignof(be64) == 1);

}  // namespace calf
