// Guest memory as real-mode code sees it: segments, and the bus's answers where there is no RAM.
//
// Reads of nothing give ones; writes to read-only memory and to nothing are lost. Only disk
// transfers are refused where there is no RAM, so that the guest gets an error and not half a
// sector. The A20 gate is always open: linear addresses above 1 MiB are what they say.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

#include "devices/core/guest_memory.h"

namespace calf::firmware {

constexpr devices::Gpa linear(uint16_t segment, uint16_t offset) {
  return devices::Gpa{(uint64_t{segment} << 4) + offset};
}

class RealMemory {
 public:
  // `memory` outlives this object.
  explicit RealMemory(const devices::GuestMemory& memory) : memory_(memory) {}

  uint8_t byte(devices::Gpa at) const;
  uint16_t word(devices::Gpa at) const;
  uint32_t dword(devices::Gpa at) const;
  void set_byte(devices::Gpa at, uint8_t value) const;
  void set_word(devices::Gpa at, uint16_t value) const;
  void set_dword(devices::Gpa at, uint32_t value) const;

  // A word at segment:offset, whose second byte wraps to the segment's start as the stack's does.
  uint16_t word(uint16_t segment, uint16_t offset) const;
  void set_word(uint16_t segment, uint16_t offset, uint16_t value) const;

  // Whole objects. False if a byte is not RAM; then nothing is usable or only part is written.
  [[nodiscard]] bool read(devices::Gpa at, std::span<uint8_t> to) const;
  [[nodiscard]] bool write(devices::Gpa at, std::span<const uint8_t> from) const;
  template <class T>
  [[nodiscard]] bool read_object(devices::Gpa at, T& object) const {
    return read(at, {reinterpret_cast<uint8_t*>(&object), sizeof object});
  }
  template <class T>
  [[nodiscard]] bool write_object(devices::Gpa at, const T& object) const {
    return write(at, {reinterpret_cast<const uint8_t*>(&object), sizeof object});
  }

  // The host's pieces of [at, at + length) for a transfer. False if a byte is not RAM, or is
  // read-only and the guest's memory is to be written.
  enum class Direction : uint8_t { kFromGuest, kToGuest };
  [[nodiscard]] bool pieces(devices::Gpa at, uint64_t length, Direction direction,
                            std::vector<iovec>& out) const;

 private:
  bool writable(devices::Gpa at, uint64_t length) const;

  const devices::GuestMemory& memory_;
};

}  // namespace calf::firmware
