// HostCopy: what a node can do whose bytes stand one to one in a file of this host. Copied from
// such a node to another, they need not pass through the program: copy_file_range(2) moves them
// inside the kernel, and file systems that can share blocks only note that they do.
//
//     copy ── host_bytes() ──> RawNode ──> FileNode (source)    descriptor and offset
//       └──── copy_in()  ────> RawNode ──> FileNode (target) <──┘
//
// A node that has this says so with its type; filters, formats that map or encode, and networks do
// not. An offer is never a promise: whoever gets an error copies the bytes himself.
#pragma once

#include <cstdint>
#include <optional>

#include "block/base/byte_range.h"
#include "block/base/task.h"

namespace calf::block {

// Valid as long as the node that gave it.
struct HostBytes {
  int fd = -1;
  uint64_t offset = 0;
};

class HostCopy {
 public:
  HostCopy() = default;
  HostCopy(const HostCopy&) = delete;
  HostCopy& operator=(const HostCopy&) = delete;

  // Where the node's bytes from `offset` on stand. Nothing: they cannot be copied like that.
  virtual std::optional<HostBytes> host_bytes(uint64_t offset) = 0;
  // Fills `range`, which is inside the node, with what stands at `from`, as write() would. An error
  // (also where the source ends too early) leaves the range with any part of it copied.
  virtual Async<> copy_in(ByteRange range, HostBytes from) = 0;

 protected:
  ~HostCopy() = default;
};

}  // namespace calf::block
