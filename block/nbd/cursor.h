// Structures from and to bytes. Cursor takes them off the front of what a peer sent. Nothing is
// believed: what does not fit makes the cursor bad, and everything it gives from then on is empty.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "block/base/endian.h"

namespace calf::nbd {

class Cursor {
 public:
  explicit Cursor(std::span<const uint8_t> bytes) : left_(bytes) {}

  // Did everything so far fit?
  bool good() const { return good_; }
  // And was it all?
  bool finished() const { return good_ && left_.empty(); }
  size_t left() const { return left_.size(); }

  template <class T>
  T take() {
    T value{};
    if (!reserve(sizeof value)) return value;
    std::memcpy(static_cast<void*>(&value), left_.data(), sizeof value);
    left_ = left_.subspan(sizeof value);
    return value;
  }
  std::string take_text(size_t size) {
    if (!reserve(size)) return {};
    std::string text(reinterpret_cast<const char*>(left_.data()), size);
    left_ = left_.subspan(size);
    return text;
  }

 private:
  bool reserve(size_t size) {
    good_ = good_ && size <= left_.size();
    return good_;
  }

  std::span<const uint8_t> left_;
  bool good_ = true;
};

// The bytes of a structure, or of what holds bytes already.
template <class T>
requires(std::is_trivially_copyable_v<T> &&
         !std::is_convertible_v<const T&, std::span<const uint8_t>>)
    std::span<const uint8_t> bytes_of(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof value};
}
inline std::span<const uint8_t> bytes_of(std::span<const uint8_t> bytes) {
  return bytes;
}
inline std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
template <class T>
std::span<uint8_t> room_of(T& value) {
  return {reinterpret_cast<uint8_t*>(&value), sizeof value};
}

inline void append(std::vector<uint8_t>* to, std::span<const uint8_t> bytes) {
  to->insert(to->end(), bytes.begin(), bytes.end());
}
// One behind the other.
template <class... Parts>
std::vector<uint8_t> joined(const Parts&... parts) {
  std::vector<uint8_t> out;
  (append(&out, bytes_of(parts)), ...);
  return out;
}
// As names go over the wire: a 32-bit length, then the text.
inline std::vector<uint8_t> counted(const std::string& text) {
  return joined(be32(static_cast<uint32_t>(text.size())), text);
}

}  // namespace calf::nbd
