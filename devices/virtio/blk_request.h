// A block request on its way from a chain of descriptors to the node and back.
//
//     Chain --parse_blk_request()--> BlkRequest   what to do, every number checked
//                                    + where the status byte goes
//
// Framing is free (virtio 2.7.4): the header is the first 16 readable bytes, the status the last
// writable one, wherever descriptors begin and end. virtio 1.2, 5.2.6.
#pragma once

#include <cstdint>
#include <vector>

#include "block/base/byte_range.h"
#include "block/io/io_slice.h"
#include "devices/virtio/chain.h"
#include "devices/virtio/spec.h"

namespace calf::virtio {

// What requests are checked against.
struct BlkLimits {
  // Bytes of data in one read or write, size_max * seg_max of the configuration space: what bounds
  // the memory that a request may cost the host.
  static constexpr uint64_t kMaxTransfer = 64u << 20;
  static constexpr uint32_t kMaxSegments = 16;            // of discard and write zeroes
  static constexpr uint32_t kMaxRangeSectors = 1u << 22;  // of one such segment: 2 GiB

  uint64_t capacity = 0;      // bytes
  uint32_t block_size = 512;  // offsets and lengths are multiples
  bool read_only = false;
  // Negotiated: a request of a feature that was not is unsupported.
  bool discard = true;
  bool write_zeroes = true;
};

struct BlkSegment {
  ByteRange range;
  bool unmap = false;
};

// A valid request. Slices are views of the chain.
struct BlkRequest {
  BlkType type = BlkType::kFlush;
  uint64_t offset = 0;               // of kRead and kWrite, bytes
  IoSlice data;                      // of kRead, kWrite, kGetId
  std::vector<BlkSegment> segments;  // of kDiscard, kWriteZeroes
};

struct ParsedBlkRequest {
  // kOk: `request` is to be done. Otherwise the answer is already known.
  BlkStatus status = BlkStatus::kOk;
  BlkRequest request;
  const char* problem = "";  // for the log, when status is not kOk
};

// True if there is a byte for the status. Without one the driver cannot be answered.
inline bool has_status_byte(const Chain& chain) {
  return chain.writable_bytes > 0;
}
// `chain` has a status byte, outlives the result and does not move.
ParsedBlkRequest parse_blk_request(const Chain& chain, const BlkLimits& limits);

void write_status_byte(const Chain& chain, BlkStatus status);

}  // namespace calf::virtio
