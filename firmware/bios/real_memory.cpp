#include "firmware/bios/real_memory.h"

#include <algorithm>

#include "block/base/endian.h"

namespace calf::firmware {

using devices::Gpa;

bool RealMemory::writable(Gpa at, uint64_t length) const {
  for (const auto& region : memory_.regions()) {
    if (region.writable) continue;
    uint64_t begin = raw(region.start);
    uint64_t end = begin + region.host.size();
    if (raw(at) < end && (raw(at) >= begin || length > begin - raw(at))) return false;
  }
  return true;
}

uint8_t RealMemory::byte(Gpa at) const {
  return memory_.read_object<uint8_t>(at).value_or(0xFF);
}

uint16_t RealMemory::word(Gpa at) const {
  return static_cast<uint16_t>(byte(at) | byte(at + 1) << 8);
}

uint32_t RealMemory::dword(Gpa at) const {
  return word(at) | static_cast<uint32_t>(word(at + 2)) << 16;
}

void RealMemory::set_byte(Gpa at, uint8_t value) const {
  if (!write(at, {&value, 1})) return;  // no RAM there: the write is lost, as on the bus
}

void RealMemory::set_word(Gpa at, uint16_t value) const {
  set_byte(at, static_cast<uint8_t>(value));
  set_byte(at + 1, static_cast<uint8_t>(value >> 8));
}

void RealMemory::set_dword(Gpa at, uint32_t value) const {
  set_word(at, static_cast<uint16_t>(value));
  set_word(at + 2, static_cast<uint16_t>(value >> 16));
}

uint16_t RealMemory::word(uint16_t segment, uint16_t offset) const {
  auto second = static_cast<uint16_t>(offset + 1);
  return static_cast<uint16_t>(byte(linear(segment, offset)) | byte(linear(segment, second)) << 8);
}

void RealMemory::set_word(uint16_t segment, uint16_t offset, uint16_t value) const {
  set_byte(linear(segment, offset), static_cast<uint8_t>(value));
  set_byte(linear(segment, static_cast<uint16_t>(offset + 1)), static_cast<uint8_t>(value >> 8));
}

bool RealMemory::read(Gpa at, std::span<uint8_t> to) const {
  return memory_.read(at, to);
}

bool RealMemory::write(Gpa at, std::span<const uint8_t> from) const {
  if (writable(at, from.size())) return memory_.write(at, from);
  bool all_ram = true;
  for (size_t i = 0; i < from.size(); ++i) {
    Gpa address = at + i;
    if (!writable(address, 1)) continue;
    if (!memory_.write(address, from.subspan(i, 1))) all_ram = false;
  }
  return all_ram;
}

bool RealMemory::pieces(Gpa at, uint64_t length, Direction direction,
                        std::vector<iovec>& out) const {
  if (length > UINT64_MAX - raw(at)) return false;
  if (direction == Direction::kToGuest && !writable(at, length)) return false;
  return memory_.append_iovecs(at, length, out);
}

}  // namespace calf::firmware
