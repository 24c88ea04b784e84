// Chain: one buffer of the driver, a chain of descriptors that was checked and translated.
//
//     descriptors:  [ readable | readable | writable | writable ]
//     iovecs:       [    0     |  1     2 |    3     |    4     ]     one may cross RAM regions
//                   '--- readable() ------'--- writable() ------'
//
// The memory is the guest's and may change while we look: copy a structure out once, check the
// copy.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "block/io/io_slice.h"

namespace calf::virtio {

struct Chain {
  uint16_t head = 0;  // names the chain in the used ring
  std::vector<iovec> iovecs;
  size_t readable_iovecs = 0;  // how many of iovecs come first
  size_t readable_bytes = 0;
  size_t writable_bytes = 0;

  // Views; the chain outlives them and does not move.
  IoSlice readable() const {
    return IoSlice(std::span(iovecs).first(readable_iovecs), 0, readable_bytes);
  }
  IoSlice writable() const {
    return IoSlice(std::span(iovecs).subspan(readable_iovecs), 0, writable_bytes);
  }
};

}  // namespace calf::virtio
