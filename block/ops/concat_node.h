// ConcatNode: several disks, one behind the other, as one read-only disk. What a source shows with
// all that is below it counts as its own: there is no backing node.
#pragma once

#include <string>
#include <vector>

#include "block/node.h"
#include "block/ops/chain_map.h"

namespace calf::ops {

class ConcatNode final : public block::Node {
 public:
  // The sources outlive the node; there is at least one.
  explicit ConcatNode(const std::vector<block::Node*>& sources);

  uint64_t size() const override { return size_; }
  const block::Limits& limits() const override { return limits_; }
  bool read_only() const override { return true; }
  Async<> read(uint64_t offset, IoSlice to) override;
  Async<> write(uint64_t, IoSlice, block::WriteFlags) override { return refuse(); }
  Async<> write_zeroes(ByteRange, block::ZeroFlags) override { return refuse(); }
  Async<> discard(ByteRange) override { return refuse(); }
  Async<> flush() override { co_return Result<void>(); }
  Async<block::Extent> map(ByteRange range) override;
  Async<> truncate(uint64_t, block::Preallocation) override { return refuse(); }
  // The sources stay open.
  Async<> close() override { co_return Result<void>(); }
  const std::string& name() const override { return parts_.front().node->name(); }
  const char* format() const override { return "concat"; }

 private:
  struct Part {
    block::Node* node;
    uint64_t begin;
    ChainMap map;
    uint64_t end() const { return begin + node->size(); }
  };
  static Async<> refuse();
  // The part that holds `offset`, which lies inside.
  Part& part_at(uint64_t offset);

  std::vector<Part> parts_;
  uint64_t size_ = 0;
  block::Limits limits_;
};

}  // namespace calf::ops
