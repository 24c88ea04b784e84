// WriteThroughNode: every write is durable when it ends (cache=writethrough and directsync). It
// sits on top of a chain: only the format knows which metadata leads to the data.
#pragma once

#include <memory>
#include <string>

#include "block/node.h"

namespace calf::block {

class WriteThroughNode final : public Node {
 public:
  explicit WriteThroughNode(std::unique_ptr<Node> below) : below_(std::move(below)) {}

  uint64_t size() const override { return below_->size(); }
  const Limits& limits() const override { return below_->limits(); }
  bool read_only() const override { return below_->read_only(); }
  Async<> read(uint64_t offset, IoSlice to) override { return below_->read(offset, to); }
  Async<> write(uint64_t offset, IoSlice from, WriteFlags flags) override {
    flags.fua = true;
    return below_->write(offset, from, flags);
  }
  Async<> write_zeroes(ByteRange range, ZeroFlags flags) override {
    flags.fua = true;
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
};

}  // namespace calf::block
