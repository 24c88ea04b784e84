// Guest memory for tests: one stretch of RAM from address 0, and optionally a read-only region.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <memory>
#include <vector>

#include "block/io/aligned_buffer.h"
#include "devices/core/guest_memory.h"

namespace calf::devices {

class FakeRam {
 public:
  static constexpr uint64_t kRomStart = uint64_t{1} << 32;
  static constexpr uint64_t kRomSize = 4096;

  explicit FakeRam(uint64_t size = 4u << 20)
      : ram_(size),
        rom_(kRomSize),
        memory_({{Gpa{0}, ram_.span(), true}, {Gpa{kRomStart}, rom_.span(), false}}) {
    std::fill(ram_.span().begin(), ram_.span().end(), uint8_t{0});
    std::fill(rom_.span().begin(), rom_.span().end(), uint8_t{0});
  }

  const GuestMemory& memory() const { return memory_; }
  uint64_t size() const { return ram_.size(); }

  // Memory that nobody else got; freed all at once. Address 0 is not handed out.
  uint64_t allocate(uint64_t bytes, uint64_t alignment = 16) {
    next_ = (next_ + alignment - 1) / alignment * alignment;
    uint64_t at = next_;
    next_ += bytes;
    assert(next_ <= ram_.size());
    return at;
  }

  // Everything may be handed out again.
  void reset_allocator() { next_ = 4096; }

  uint8_t* at(uint64_t address) { return ram_.data() + address; }
  std::span<uint8_t> bytes(uint64_t address, uint64_t length) {
    assert(address + length <= ram_.size());
    return ram_.span().subspan(address, length);
  }
  std::vector<uint8_t> copy(uint64_t address, uint64_t length) {
    auto b = bytes(address, length);
    return {b.begin(), b.end()};
  }

 private:
  AlignedBuffer ram_;
  AlignedBuffer rom_;
  GuestMemory memory_;
  uint64_t next_ = 4096;
};

}  // namespace calf::devices
