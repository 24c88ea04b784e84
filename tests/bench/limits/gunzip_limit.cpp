#include <libdeflate.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/bench/limits/limits.h"
#include "tests/bench/limits/raw_file.h"

namespace calf::bench {

double run_gunzip_limit(const char* name) {
  const RawFile file(name, O_RDONLY);
  if (file.fd < 0) return -errno;
  std::vector<char> packed(file.size());
  uint32_t size = 0;  // stands at the end
  if (packed.size() < sizeof size) return -EINVAL;
  if (const int error = file.read(packed.data(), packed.size(), 0); error != 0) return -error;
  std::memcpy(&size, packed.data() + packed.size() - sizeof size, sizeof size);
  const auto begin = std::chrono::steady_clock::now();
  const std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)> codec(
      libdeflate_alloc_decompressor(), &libdeflate_free_decompressor);
  const auto plain = std::make_unique_for_overwrite<char[]>(size);
  const libdeflate_result result = libdeflate_gzip_decompress(
      codec.get(), packed.data(), packed.size(), plain.get(), size, nullptr);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return result == LIBDEFLATE_SUCCESS ? took.count() : -EPROTO;
}

}  // namespace calf::bench
