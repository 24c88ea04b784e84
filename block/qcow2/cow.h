// Copy-on-write of one allocation: what must stand around the guest's data in its clusters.
//
//     clusters      |      |  head  |      guest data      |  tail  |      |
//     subclusters   |      |        |   |   |   |   |   |  |        |      |
//                          └──────────  written  ──────────┘
//
// Written are whole subclusters, and, where a cluster is replaced, everything that the old one
// held. Head and tail come from the old entries of the first and the last cluster. All three go out
// in one vectored write. Where the old content is zero and the place has never been written, head
// and tail are left out.
#pragma once

#include <vector>

#include "block/io/aligned_buffer.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {

// What one write allocates: some clusters, one after another in the disk and in the file.
struct CowTarget {
  // In the file with the data.
  ByteRange host;
  // Nothing was ever written there or behind.
  bool fresh = false;
  // The entries had these clusters already.
  bool reused = false;
};

class CowWrite {
 public:
  // Guest bytes `data` (range inside the disk) go to the clusters of `target`, which are exactly
  // those that the range touches. `first` and `last` are the old entries of the first and the last
  // of them.
  CowWrite(Image::State& state, uint64_t offset, IoSlice data, CowTarget target, L2Entry first,
           L2Entry last);

  // Reads what is needed, then writes.
  Async<> run();

  // The guest bytes that stand in the target afterwards (what was there before apart).
  ByteRange written() const { return written_; }

 private:
  Image::State& state_;
  uint64_t offset_;
  IoSlice data_;
  CowTarget target_;
  L2Entry first_;
  L2Entry last_;
  ByteRange written_;
  AlignedBuffer head_;
  AlignedBuffer tail_;
};

}  // namespace calf::qcow2
