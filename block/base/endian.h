// Integers that store their bytes in a named order, at any alignment.
//
// A field of an on-disk or on-wire structure is declared as be32, le64, …; reading and assigning
// converts. Nothing else in the tree swaps bytes. Structures made of these have alignment 1 and no
// padding, so their layout is what is written down.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

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
  using Bytes = std::array<uint8_t, sizeof(T)>;

  // One load or store and a swap, said so that no compiler makes a loop over bytes of it.
  constexpr T load() const { return in_order(std::bit_cast<T>(bytes_)); }
  constexpr void store(T value) { bytes_ = std::bit_cast<Bytes>(in_order(value)); }
  static constexpr T in_order(T value) {
    if constexpr (Order == std::endian::native || sizeof(T) == 1) {
      return value;
    } else if constexpr (sizeof(T) == 2) {
      return __builtin_bswap16(value);
    } else if constexpr (sizeof(T) == 4) {
      return __builtin_bswap32(value);
    } else {
      static_assert(sizeof(T) == 8);
      return __builtin_bswap64(value);
    }
  }

  Bytes bytes_ = {};
};

using le16 = Ordered<uint16_t, std::endian::little>;
using le32 = Ordered<uint32_t, std::endian::little>;
using le64 = Ordered<uint64_t, std::endian::little>;
using be16 = Ordered<uint16_t, std::endian::big>;
using be32 = Ordered<uint32_t, std::endian::big>;
using be64 = Ordered<uint64_t, std::endian::big>;

static_assert(sizeof(be64) == 8 && alignof(be64) == 1);

}  // namespace calf
