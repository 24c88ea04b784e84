// HostFile: the file of an image, and what is known of its space.
//
// Any byte range may be asked for: the node below takes care of what the host wants aligned, and
// reads zeroes past the end of the file.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "block/base/byte_range.h"
#include "block/io/executor.h"
#include "block/io/io_slice.h"
#include "block/node.h"

namespace calf::qcow2 {

class HostFile {
 public:
  HostFile(std::unique_ptr<block::Node> node, bool unsafe_no_flush);

  block::Node& node() const { return *node_; }
  uint64_t size() const { return node_->size(); }

  Async<> read(uint64_t offset, IoSlice to) { return node_->read(offset, to); }
  Async<> write(uint64_t offset, IoSlice from);
  // `bytes` outlives the await.
  Async<> read_bytes(uint64_t offset, std::span<uint8_t> bytes);
  Async<> write_bytes(uint64_t offset, std::span<const uint8_t> bytes);
  // The range reads as zeroes; space may be given back, if `may_unmap`.
  Async<> write_zeroes(ByteRange range, bool may_unmap = true);
  // Gives the space of the range back where the host can; its content is undefined afterwards.
  Async<> discard(ByteRange range);
  // Does nothing if the image was opened with unsafe_no_flush.
  Async<> flush();
  Async<> close() { return node_->close(); }

  // Nothing was ever written at or behind this offset, and no table is planned there, so it reads
  // as zeroes.
  uint64_t high_water() const { return high_water_; }
  void raise_high_water(uint64_t end) {
    if (end > high_water_) high_water_ = end;
  }

 private:
  std::unique_ptr<block::Node> node_;
  bool unsafe_no_flush_;
  uint64_t high_water_;
};

}  // namespace calf::qcow2
