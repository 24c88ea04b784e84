// Numbers in messages as printf's %#x writes them, which is how qemu-img writes them.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

namespace calf::qcow2 {

// "0x1f"; zero is "0".
inline std::string c_hex(uint64_t value) {
  return value == 0 ? "0" : fmt::format("{:#x}", value);
}

}  // namespace calf::qcow2
