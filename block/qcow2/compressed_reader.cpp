#include "block/qcow2/compressed_reader.h"

#include <algorithm>

namespace calf::qcow2 {
namespace {

constexpr uint64_t kKeptBytes = uint64_t{8} << 20;
constexpr size_t kMaxKept = 64;
constexpr uint64_t kMaxInFlight = 32;
constexpr size_t kMaxSpare = 4;

}  // namespace

CompressedReader::CompressedReader(Executor& executor, HostFile& file, const Geometry& geometry,
                                   Codec& codec)
    : executor_(executor),
      file_(file),
      geometry_(geometry),
      codec_(codec),
      max_kept_(std::clamp<size_t>(kKeptBytes / geometry.cluster_size(), 4, kMaxKept)),
      loaded_(executor),
      in_flight_(executor, kMaxInFlight) {}

Async<> CompressedReader::read(L2Entry entry, uint64_t in_cluster, IoSlice to) {
  CO_TRY(Shared cluster, co_await load(entry));
  to.copy_from(cluster->bytes.span().subspan(in_cluster, to.size()));
  co_return Result<void>();
}

Async<CompressedReader::Shared> CompressedReader::load(L2Entry entry) {
  for (;;) {
    auto it = kept_.find(entry.offset);
    if (it == kept_.end()) break;
    if (!it->second.cluster->loading) {
      lru_.splice(lru_.begin(), lru_, it->second.lru);
      co_return it->second.cluster;
    }
    co_await loaded_.wait();
  }
  auto cluster = std::make_shared<Cluster>();
  make_room();
  lru_.push_front(entry.offset);
  kept_.emplace(entry.offset, Kept{cluster, lru_.begin()});

  co_await in_flight_.acquire();
  Result<void> filled = co_await fill(entry, *cluster);
  in_flight_.release();
  cluster->loading = false;
  loaded_.wake_all();
  if (!filled.ok()) {
    if (!cluster->forgotten) forget(entry.offset);
    co_return std::move(filled.error());
  }
  co_return cluster;
}

Async<> CompressedReader::fill(L2Entry entry, Cluster& cluster) {
  // The last sector may lie behind the end of the file; HostFile reads zeroes there.
  AlignedBuffer packed(entry.compressed_length);
  CO_TRY_VOID(co_await file_.read_bytes(entry.offset, packed.span()));
  if (spare_.empty()) {
    cluster.bytes = AlignedBuffer(geometry_.cluster_size());
  } else {
    cluster.bytes = std::move(spare_.back());
    spare_.pop_back();
  }
  Codec* codec = &codec_;
  const std::span<const uint8_t> from = packed.span();
  const std::span<uint8_t> to = cluster.bytes.span();
  auto work = [codec, from, to] { return codec->decompress(from, to); };
  Result<void> done = co_await executor_.offload_batched(work);
  co_return done;
}

void CompressedReader::forget(uint64_t offset) {
  auto it = kept_.find(offset);
  if (it == kept_.end()) return;
  Cluster& cluster = *it->second.cluster;
  cluster.forgotten = true;
  // Nobody else reads it.
  if (it->second.cluster.use_count() == 1 && cluster.bytes.size() != 0 &&
      spare_.size() < kMaxSpare) {
    spare_.push_back(std::move(cluster.bytes));
  }
  lru_.erase(it->second.lru);
  kept_.erase(it);
}

void CompressedReader::make_room() {
  auto it = lru_.end();
  while (kept_.size() >= max_kept_ && it != lru_.begin()) {
    --it;
    uint64_t offset = *it;
    if (kept_.at(offset).cluster->loading) continue;
    ++it;
    forget(offset);
  }
}

}  // namespace calf::qcow2
