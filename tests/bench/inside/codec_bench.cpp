// A cluster of 64 KiB, half of it random, through the codecs of qcow2.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "block/qcow2/compression.h"

namespace calf::qcow2 {
namespace {

constexpr size_t kCluster = size_t{64} << 10;

std::vector<uint8_t> cluster() {
  std::vector<uint8_t> bytes(kCluster);
  std::minstd_rand random(1);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = i / 32 % 2 != 0 ? static_cast<uint8_t>(random()) : static_cast<uint8_t>(i / 64);
  return bytes;
}

void pack(benchmark::State& state, Compression type) {
  Codec codec(type);
  const std::vector<uint8_t> plain = cluster();
  std::vector<uint8_t> packed(kCluster);
  for (auto _ : state)
    benchmark::DoNotOptimize(codec.compress(plain, packed));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kCluster));
}
BENCHMARK_CAPTURE(pack, zlib, Compression::kZlib);
BENCHMARK_CAPTURE(pack, zstd, Compression::kZstd);

void unpack(benchmark::State& state, Compression type) {
  Codec codec(type);
  const std::vector<uint8_t> plain = cluster();
  std::vector<uint8_t> packed(kCluster), out(kCluster);
  const std::optional<size_t> size = codec.compress(plain, packed);
  if (!size) return state.SkipWithError("the cluster does not get smaller");
  packed.resize(*size);
  for (auto _ : state) {
    if (!codec.decompress(packed, out).ok()) return state.SkipWithError("it does not unpack");
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kCluster));
}
BENCHMARK_CAPTURE(unpack, zlib, Compression::kZlib);
BENCHMARK_CAPTURE(unpack, zstd, Compression::kZstd);

}  // namespace
}  // namespace calf::qcow2
