#include "devices/legacy/debug_ports.h"

#include <algorithm>

namespace calf::devices {

void DebugExit::read(uint64_t, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0});
}

void DebugExit::write(uint64_t, std::span<const uint8_t> data) {
  uint32_t value = 0;
  for (size_t i = 0; i < std::min(data.size(), sizeof value); ++i)
    value |= uint32_t{data[i]} << (8 * i);
  machine_.request_debug_exit(value);
}

void Pvpanic::write_byte(uint64_t offset, uint8_t value) {
  if (offset != 0) return;
  if ((value & kPanicked) != 0) {
    machine_.guest_panicked(PanicKind::kPanicked);
  } else if ((value & kCrashLoaded) != 0) {
    machine_.guest_panicked(PanicKind::kCrashLoaded);
  }
}

}  // namespace calf::devices
