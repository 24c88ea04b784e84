// SecretBytes: a few bytes that nobody finds in memory later: passphrases and keys. Wiped when they
// are dropped or replaced; never copied by accident.
#pragma once

#include <string.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

namespace calf::crypto {

class SecretBytes {
 public:
  SecretBytes() = default;
  // `size` zeroes.
  explicit SecretBytes(size_t size)
      : data_(size != 0 ? new uint8_t[size]() : nullptr), size_(size) {}
  SecretBytes(SecretBytes&& other) noexcept
      : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  SecretBytes& operator=(SecretBytes&& other) noexcept {
    if (this != &other) {
      wipe();
      data_ = std::move(other.data_);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }
  ~SecretBytes() { wipe(); }

  static SecretBytes copy_of(std::span<const uint8_t> bytes) {
    SecretBytes out(bytes.size());
    std::copy(bytes.begin(), bytes.end(), out.data_.get());
    return out;
  }
  static SecretBytes copy_of(std::string_view text) {
    return copy_of(
        std::span<const uint8_t>(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  std::span<uint8_t> span() { return {data_.get(), size_}; }
  std::span<const uint8_t> span() const { return {data_.get(), size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_.get()), size_}; }

 private:
  void wipe() {
    if (data_) ::explicit_bzero(data_.get(), size_);
  }
  std::unique_ptr<uint8_t[]> data_;
  size_t size_ = 0;
};

}  // namespace calf::crypto
