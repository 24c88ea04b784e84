// DetectZeroesNode: turns writes of nothing but zeroes into write_zeroes() (detect-zeroes=on, and
// =unmap, where the space may be given back).
#pragma once

#include <memory>
#include <string>

#include "block/node.h"

namespace calf::block {

class DetectZeroesNode final : public Node {
 public:
  DetectZeroesNode(std::unique_ptr<Node> below, bool may_unmap)
      : below_(std::move(below)), may_unmap_(may_unmap) {}

  uint64_t size() const override { return below_->size(); }
  const Limits& limits() const override { return below_->limits(); }
  bool read_only() const override { return below_->read_only(); }
  Async<> read(uint64_t offset, IoSlice to) override { return below_->read(offset, to); }
  Async<> write(uint64_t offset, IoSlice from, WriteFlags flags) override {
    if (!from.is_zero()) return below_->write(offset, from, flags);
    ZeroFlags zero{.may_unmap = may_unmap_, .fua = flags.fua};
    return below_->write_zeroes(ByteRange{offset, from.size()}, zero);
  }
  Async<> write_zeroes(ByteRange range, ZeroFlags flags) override {
    return below_->write_zeroes(range, flags);
  }
  Async<> discard(ByteRange range) override { return below_->discard(range); }
  Async<> flush() override { return below_->flush(); }
  Async<Extent> map(ByteRange range) override { return below_->map(range); }
  Async<> truncate(uint64_t size, Preallocation preallocation) override {
    return below_->truncate(size, preallocation);
  }
  Async<> close() override { return below_->close(); }
  Node* backing() const override { return below_->backing(); }
  const std::string& name() const override { return below_->name(); }
  const char* format() const override { return below_->format(); }

 private:
  std::unique_ptr<Node> below_;
  bool may_unmap_;
};

}  // namespace calf::block
