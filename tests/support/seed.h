// The seed of a randomised test: new every time, printed, and CALF_TEST_SEED brings one back.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace calf {

inline uint32_t test_seed() {
  const char* fixed = std::getenv("CALF_TEST_SEED");
  uint32_t seed = fixed != nullptr ? static_cast<uint32_t>(std::strtoul(fixed, nullptr, 0))
                                   : std::random_device{}();
  std::printf("seed %u (CALF_TEST_SEED=%u repeats this)\n", seed, seed);
  std::fflush(stdout);
  return seed;
}

}  // namespace calf
