// What a guest does that has lost its mind: random accesses of every width at every offset.
#pragma once

#include <array>
#include <random>

#include "devices/core/device.h"

namespace calf::devices {

// `between` runs after each access, for the rest of the world to move. Reproducible by seed.
template <class Between>
void hostile_accesses(Device& device, uint64_t window, unsigned count, uint32_t seed,
                      Between between) {
  std::mt19937 random(seed);
  std::array<uint8_t, 8> data{};
  for (unsigned i = 0; i < count; ++i) {
    size_t width = size_t{1} << random() % 4;
    uint64_t offset = random() % (window + 4);
    if (random() % 64 == 0) offset = ~uint64_t{0} - random() % 8;
    for (uint8_t& byte : data)
      byte = static_cast<uint8_t>(random());
    if (random() % 2 == 0) {
      device.read(offset, std::span(data).first(width));
    } else {
      device.write(offset, std::span<const uint8_t>(data).first(width));
    }
    between(random());
  }
}

}  // namespace calf::devices
