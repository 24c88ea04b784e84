// Copy-on-write of one allocation: what must stand around the guest's data in the new clusters.
//
//     new clusters   |  head   |      guest data      |  tail  |
//                    └ old content of the first  …  of the last cluster
//
// All three go out in one vectored write. Where the old content is zero and the place has never
// been written, head and tail are left out.
#pragma once

#include <vector>

#include "block/io/aligned_buffer.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {

class CowWrite {
 public:
  // Guest bytes `data` (range inside the disk) go to the clusters at `host`, which cover exactly
  // the clusters that the range touches. `first` and `last` are the old entries of the first and
  // the last of them. `fresh`: nothing was ever written at `host` or behind.
  CowWrite(Image::State& state, uint64_t offset, IoSlice data, ByteRange host, bool fresh,
           L2Entry first, L2Entry last);

  // Reads what is needed, then writes.
  Async<> run();

 private:
  Image::State& state_;
  uint64_t offset_;
  IoSlice data_;
  ByteRange host_;
  bool fresh_;
  L2Entry first_;
  L2Entry last_;
  AlignedBuffer head_;
  AlignedBuffer tail_;
};

}  // namespace calf::qcow2
