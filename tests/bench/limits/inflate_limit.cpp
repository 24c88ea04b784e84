#include <fcntl.h>
#include <libdeflate.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/bench/limits/limits.h"

namespace calf::bench {
namespace {

constexpr size_t kCluster = size_t{64} << 10;
// More than the processors' caches hold.
constexpr size_t kClusters = 1024;

struct FreeCodec {
  void operator()(libdeflate_compressor* c) const { libdeflate_free_compressor(c); }
  void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
};

using Packed = std::vector<char>;

// Clusters from random places of the file; those that do not get smaller are left out. 0 or an
// errno.
int pack(const char* file, std::vector<Packed>& out) {
  const int fd = ::open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const off_t end = ::lseek(fd, 0, SEEK_END);
  std::unique_ptr<libdeflate_compressor, FreeCodec> codec(libdeflate_alloc_compressor(6));
  std::mt19937_64 random(1);
  std::vector<char> plain(kCluster), packed(kCluster);
  int error = end < static_cast<off_t>(kCluster) ? EINVAL : 0;
  for (size_t tries = 0; error == 0 && out.size() < kClusters && tries < 4 * kClusters; ++tries) {
    const uint64_t cluster = random() % (static_cast<uint64_t>(end) / kCluster);
    const ssize_t n = ::pread(fd, plain.data(), kCluster, static_cast<off_t>(cluster * kCluster));
    if (n != static_cast<ssize_t>(kCluster)) error = n < 0 ? errno : EIO;
    const size_t size = libdeflate_deflate_compress(codec.get(), plain.data(), kCluster,
                                                    packed.data(), packed.size() - 1);
    if (size != 0) out.emplace_back(packed.begin(), packed.begin() + static_cast<ptrdiff_t>(size));
  }
  ::close(fd);
  return out.empty() && error == 0 ? ENODATA : error;
}

}  // namespace

double run_inflate_limit(const char* file, uint64_t count) {
  std::vector<Packed> clusters;
  if (const int error = pack(file, clusters); error != 0) return -error;
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
  auto inflate = [&] {
    std::unique_ptr<libdeflate_decompressor, FreeCodec> codec(libdeflate_alloc_decompressor());
    std::vector<char> plain(kCluster);
    for (uint64_t i = next++; i < count; i = next++) {
      const Packed& packed = clusters[i % clusters.size()];
      if (libdeflate_deflate_decompress(codec.get(), packed.data(), packed.size(), plain.data(),
                                        plain.size(), nullptr) != LIBDEFLATE_SUCCESS) {
        failed = true;
      }
    }
  };
  const auto begin = std::chrono::steady_clock::now();
  std::thread other(inflate);
  inflate();
  other.join();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return failed ? -EPROTO : took.count();
}

}  // namespace calf::bench
