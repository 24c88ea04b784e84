// SizeLimit: a file that must not grow beyond a number of bytes. A request that would is refused
// with ENOSPC, as by a full disk.
#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>

#include "block/node.h"

namespace calf::block {

class SizeLimit final : public Node {
 public:
  SizeLimit(std::unique_ptr<Node> below, uint64_t limit)
      : below_(std::move(below)), limit_(limit) {}

  uint64_t size() const override { return below_->size(); }
  const Limits& limits() const override { return below_->limits(); }
  bool read_only() const override { return below_->read_only(); }
  Async<> read(uint64_t offset, IoSlice to) override { return below_->read(offset, to); }
  Async<> write(uint64_t offset, IoSlice from, WriteFlags flags) override {
    if (!fits(offset, from.size())) return no_space();
    return below_->write(offset, from, flags);
  }
  Async<> write_zeroes(ByteRange range, ZeroFlags flags) override {
    if (!fits(range.offset, range.length)) return no_space();
    return below_->write_zeroes(range, flags);
  }
  Async<> discard(ByteRange range) override { return below_->discard(range); }
  Async<> flush() override { return below_->flush(); }
  Async<Extent> map(ByteRange range) override { return below_->map(range); }
  Async<> truncate(uint64_t size, Preallocation preallocation) override {
    if (!fits(size, 0)) return no_space();
    return below_->truncate(size, preallocation);
  }
  Async<> close() override { return below_->close(); }
  const std::string& name() const override { return below_->name(); }
  const char* format() const override { return below_->format(); }

 private:
  bool fits(uint64_t offset, uint64_t length) const {
    return offset <= limit_ && length <= limit_ - offset;
  }
  static Async<> no_space() { co_return Error::from_errno(ENOSPC); }

  std::unique_ptr<Node> below_;
  uint64_t limit_;
};

}  // namespace calf::block
