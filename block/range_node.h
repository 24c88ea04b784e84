// RangeNode: a read-only window on a part of another node, which outlives it.
#pragma once

#include <cerrno>
#include <string>

#include "block/node.h"

namespace calf::block {

class RangeNode final : public Node {
 public:
  // `range` lies inside the node.
  RangeNode(Node& node, ByteRange range) : node_(node), range_(range), limits_(node.limits()) {}

  uint64_t size() const override { return range_.length; }
  const Limits& limits() const override { return limits_; }
  bool read_only() const override { return true; }
  Async<> read(uint64_t offset, IoSlice to) override {
    return node_.read(range_.offset + offset, to);
  }
  Async<> write(uint64_t, IoSlice, WriteFlags) override { return refuse(); }
  Async<> write_zeroes(ByteRange, ZeroFlags) override { return refuse(); }
  Async<> discard(ByteRange) override { return refuse(); }
  Async<> flush() override { co_return Result<void>(); }
  Async<Extent> map(ByteRange range) override {
    ByteRange inside{range_.offset + range.offset, range.length};
    CO_TRY(Extent extent, co_await node_.map(inside));
    extent.range.offset -= range_.offset;
    co_return extent;
  }
  Async<> truncate(uint64_t, Preallocation) override { return refuse(); }
  // The node itself stays open.
  Async<> close() override { co_return Result<void>(); }
  const std::string& name() const override { return node_.name(); }
  const char* format() const override { return node_.format(); }

 private:
  static Async<> refuse() {
    co_return Error(ErrorKind::kReadOnly, EPERM, "A part of an image is read-only");
  }

  Node& node_;
  ByteRange range_;
  Limits limits_;
};

}  // namespace calf::block
