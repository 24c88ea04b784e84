// CompressedReader: reads from compressed clusters. A few decompressed clusters are kept, and
// requests that want the same one at the same time wait for one decompression.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "block/io/aligned_buffer.h"
#include "block/io/sync.h"
#include "block/qcow2/compression.h"
#include "block/qcow2/host_file.h"
#include "block/qcow2/l2_entry.h"

namespace calf::qcow2 {

class CompressedReader {
 public:
  CompressedReader(Executor& executor, HostFile& file, const Geometry& geometry, Codec& codec);

  // Fills `to` with the bytes from `in_cluster` on of the cluster that `entry` describes.
  Async<> read(L2Entry entry, uint64_t in_cluster, IoSlice to);
  // The entry was replaced: its place may hold something else soon.
  void forget(uint64_t offset);

 private:
  struct Cluster {
    AlignedBuffer bytes;
    bool loading = true;
    bool forgotten = false;
  };
  using Shared = std::shared_ptr<Cluster>;
  struct Kept {
    Shared cluster;
    std::list<uint64_t>::iterator lru;
  };

  Async<Shared> load(L2Entry entry);
  Async<> fill(L2Entry entry, Cluster& cluster);
  void make_room();

  Executor& executor_;
  HostFile& file_;
  Geometry geometry_;
  Codec& codec_;
  size_t max_kept_;
  std::unordered_map<uint64_t, Kept> kept_;
  std::list<uint64_t> lru_;           // most recently used first
  std::vector<AlignedBuffer> spare_;  // of clusters that are not kept any more
  WaitQueue loaded_;
  // Bounds memory: each decompression holds both forms of a cluster.
  AsyncSemaphore in_flight_;
};

}  // namespace calf::qcow2
