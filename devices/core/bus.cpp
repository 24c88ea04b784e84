#include "devices/core/bus.h"

#include <algorithm>
#include <mutex>

namespace calf::devices {

Result<void> Bus::map(ByteRange range, Device& device) {
  if (range.empty() || range.length > UINT64_MAX - range.offset) {
    return make_error(ErrorKind::kInvalid, "bus window {:#x}+{:#x} is empty or wraps around",
                      range.offset, range.length);
  }
  std::unique_lock lock(mutex_);
  auto next = windows_.lower_bound(range.offset);
  bool hits_next = next != windows_.end() && next->first < range.end();
  bool hits_previous = next != windows_.begin() &&
                       std::prev(next)->first + std::prev(next)->second.length > range.offset;
  if (hits_next || hits_previous) {
    return make_error(ErrorKind::kExists, "bus window {:#x}+{:#x} overlaps another device",
                      range.offset, range.length);
  }
  windows_.emplace(range.offset, Window{range.length, &device});
  return {};
}

void Bus::unmap(uint64_t offset) {
  std::unique_lock lock(mutex_);
  windows_.erase(offset);
}

Bus::Hit Bus::find(uint64_t address) {
  std::shared_lock lock(mutex_);
  auto after = windows_.upper_bound(address);
  if (after == windows_.begin()) return {nullptr, 0};
  const auto& [start, window] = *std::prev(after);
  if (address - start >= window.length) return {nullptr, 0};
  return {window.device, address - start};
}

bool Bus::read(uint64_t address, std::span<uint8_t> data) {
  Hit hit = find(address);
  if (hit.device == nullptr) {
    std::fill(data.begin(), data.end(), uint8_t{0xff});
    return false;
  }
  hit.device->read(hit.offset, data);
  return true;
}

bool Bus::write(uint64_t address, std::span<const uint8_t> data) {
  Hit hit = find(address);
  if (hit.device == nullptr) return false;
  hit.device->write(hit.offset, data);
  return true;
}

}  // namespace calf::devices
