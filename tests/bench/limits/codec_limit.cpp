#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <random>

#include "tests/bench/limits/codec.h"
#include "tests/bench/limits/limits.h"
#include "tests/bench/limits/raw_file.h"
#include "tests/bench/limits/threads.h"

namespace calf::bench {
namespace {

constexpr size_t kCluster = size_t{64} << 10;
constexpr size_t kThreads = 2;
// Of which a file's clusters are packed ahead; more than the processors' caches hold.
constexpr size_t kSample = 1024;

struct Cluster {
  uint64_t offset;          // in the file
  std::vector<char> bytes;  // packed, or the plain ones where they did not get fewer
};
using Buffer = std::vector<char>;
using Seconds = std::chrono::duration<double>;

template <class Work>
double timed(Work work) {
  const auto begin = std::chrono::steady_clock::now();
  const int error = work();
  const Seconds took = std::chrono::steady_clock::now() - begin;
  return error != 0 ? -error : took.count();
}

struct Packer {
  explicit Packer(CodecKind kind) : codec(Codec::create(kind)) {}
  std::unique_ptr<Codec> codec;
  Buffer plain = Buffer(kCluster), packed = Buffer(kCluster);
};

// Some of the file's clusters, evenly spread, as a writer would have stored them.
int pack_sample(CodecKind kind, const RawFile& from, std::vector<Cluster>& out) {
  const uint64_t there = from.size() / kCluster;
  if (there == 0) return ENODATA;
  out.resize(std::min<uint64_t>(there, kSample));
  return by_threads(kThreads, out.size(), [&] {
    return [&, packer = std::make_shared<Packer>(kind)](size_t i) {
      out[i].offset = there * i / out.size() * kCluster;
      if (const int error = from.read(packer->plain.data(), kCluster, out[i].offset); error != 0)
        return error;
      const size_t n =
          packer->codec->pack_as_usual(packer->plain.data(), kCluster, packer->packed.data());
      const Buffer& chosen = n != 0 ? packer->packed : packer->plain;
      out[i].bytes.assign(chosen.begin(),
                          chosen.begin() + static_cast<ptrdiff_t>(n ? n : kCluster));
      return 0;
    };
  });
}

int unpack(Codec& codec, const Cluster& cluster, Buffer& out) {
  if (cluster.bytes.size() == kCluster) {
    std::memcpy(out.data(), cluster.bytes.data(), kCluster);
    return 0;
  }
  return codec.unpack(cluster.bytes, out.data(), kCluster) ? 0 : EPROTO;
}

}  // namespace

double run_pack_limit(CodecKind kind, const char* from, const char* to) {
  RawFile source(from, O_RDONLY), target(to, O_RDWR | O_CREAT | O_TRUNC);
  if (source.fd < 0 || target.fd < 0) return -errno;
  std::atomic<uint64_t> end{0};
  return timed([&] {
    return by_threads(kThreads, source.size() / kCluster, [&] {
      return [&, packer = std::make_shared<Packer>(kind)](size_t i) {
        if (const int error = source.read(packer->plain.data(), kCluster, i * kCluster); error != 0)
          return error;
        const size_t n = packer->codec->pack(packer->plain.data(), kCluster, packer->packed.data());
        const size_t bytes = n ? n : kCluster;
        const Buffer& chosen = n != 0 ? packer->packed : packer->plain;
        return target.write(chosen.data(), bytes, end.fetch_add(bytes));
      };
    });
  });
}

double run_unpack_limit(CodecKind kind, const char* from, const char* to) {
  RawFile source(from, O_RDONLY);
  if (source.fd < 0) return -errno;
  std::vector<Cluster> clusters;
  if (const int error = pack_sample(kind, source, clusters); error != 0) return -error;
  std::optional<RawFile> target;
  if (to != nullptr) {
    target.emplace(to, O_RDWR | O_CREAT | O_TRUNC);
    if (target->fd < 0) return -errno;
  }
  return timed([&] {
    return by_threads(kThreads, source.size() / kCluster, [&] {
      return [&, codec = std::shared_ptr<Codec>(Codec::create(kind)), out = Buffer(kCluster),
              there = Buffer(kCluster)](size_t i) mutable {
        const Cluster& cluster = clusters[i % clusters.size()];
        if (const int error = unpack(*codec, cluster, out); error != 0) return error;
        if (target) return target->write(out.data(), kCluster, i * kCluster);
        if (const int error = source.read(there.data(), kCluster, cluster.offset); error != 0)
          return error;
        return out == there ? 0 : EPROTO;
      };
    });
  });
}

double run_inflate_limit(const InflateLimit& limit) {
  RawFile source(limit.file, O_RDONLY);
  if (source.fd < 0) return -errno;
  std::vector<Cluster> clusters;
  if (const int error = pack_sample(CodecKind::kZlib, source, clusters); error != 0) return -error;
  if (limit.random) std::ranges::shuffle(clusters, std::mt19937_64(1));
  return timed([&] {
    return by_threads(limit.threads, limit.clusters, [&] {
      return [&, codec = std::shared_ptr<Codec>(Codec::create(CodecKind::kZlib)),
              out = Buffer(kCluster)](size_t i) mutable {
        return unpack(*codec, clusters[i % clusters.size()], out);
      };
    });
  });
}

}  // namespace calf::bench
