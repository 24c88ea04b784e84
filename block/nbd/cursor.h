// Cursor: takes structures off the front of bytes that a peer sent. Nothing is believed: what does
// not fit makes the cursor bad, and everything it gives from then on is empty.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

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

// The bytes of a structure.
template <class T>
std::span<const uint8_t> bytes_of(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof value};
}
template <class T>
std::span<uint8_t> room_of(T& value) {
  return {reinterpret_cast<uint8_t*>(&value), sizeof value};
}
inline void append(std::vector<uint8_t>* to, std::span<const uint8_t> bytes) {
  to->insert(to->end(), bytes.begin(), bytes.end());
}
inline std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace calf::nbd
