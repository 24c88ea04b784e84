// BytePort: one port of a chip whose ports do not lie side by side (an i8042's 0x60 and 0x64).
#pragma once

#include <functional>

#include "devices/core/device.h"

namespace calf::devices {

class BytePort final : public ByteDevice {
 public:
  static constexpr uint64_t kWindow = 1;

  BytePort(std::function<uint8_t()> read, std::function<void(uint8_t)> write)
      : read_(std::move(read)), write_(std::move(write)) {}
  uint8_t read_byte(uint64_t offset) override { return offset == 0 ? read_() : 0xff; }
  void write_byte(uint64_t offset, uint8_t value) override {
    if (offset == 0) write_(value);
  }

 private:
  std::function<uint8_t()> read_;
  std::function<void(uint8_t)> write_;
};

}  // namespace calf::devices
