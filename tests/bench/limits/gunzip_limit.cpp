#include <libdeflate.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/bench/limits/limits.h"
#include "tests/bench/limits/raw_file.h"

namespace calf::bench {

double run_gunzip_limit(const char* name) {
  using Clock = std::chrono::steady_clock;
  const RawFile file(name, O_RDONLY);
  if (file.fd < 0) return -errno;
  std::vector<char> packed(file.size());
  uint32_t size = 0;  // stands at the end
  if (packed.size() < sizeof size) return -EINVAL;
  if (const int error = file.read(packed.data(), packed.size(), 0); error != 0) return -error;
  std::memcpy(&size, packed.data() + packed.size() - sizeof size, sizeof size);
  const std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)> codec(
      libdeflate_alloc_decompressor(), &libdeflate_free_decompressor);
  const auto plain = std::make_unique_for_overwrite<char[]>(size);
  std::chrono::duration<double> best = std::chrono::hours(1);
  // The first time waits for memory.
  for (int i = 0; i < 2; ++i) {
    const auto begin = Clock::now();
    if (libdeflate_gzip_decompress(codec.get(), packed.data(), packed.size(), plain.get(), size,
                                   nullptr) != LIBDEFLATE_SUCCESS) {
      return -EPROTO;
    }
    best = std::min<std::chrono::duration<double>>(best, Clock::now() - begin);
  }
  return best.count();
}

}  // namespace calf::bench
