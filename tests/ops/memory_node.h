// A disk in memory for tests of jobs: extents of one size whose status the test sets, and errors
// where it wants them.
#pragma once

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "block/io/executor.h"
#include "block/node.h"

namespace calf {

class MemoryNode : public block::Node {
 public:
  MemoryNode(Executor& executor, size_t size) : executor_(executor), bytes_(size) {}

  // Reads and writes of a range with one of these bytes in it fail with EIO.
  std::set<uint64_t> bad_bytes;
  // Map says "data" for what is not zero (in steps of this), so that walks have something to do.
  uint64_t map_step = 65536;
  // Shown as limits().cluster_size.
  void set_cluster_size(uint32_t size) { limits_.cluster_size = size; }
  std::vector<uint8_t>& bytes() { return bytes_; }
  // Writes seen, in order of arrival.
  std::vector<ByteRange> writes;
  std::vector<ByteRange> zeroes;
  unsigned in_flight = 0;
  unsigned most_in_flight = 0;
  unsigned writing = 0;
  unsigned most_writing = 0;

  uint64_t size() const override { return bytes_.size(); }
  const block::Limits& limits() const override { return limits_; }
  bool read_only() const override { return false; }
  Async<> read(uint64_t offset, IoSlice to) override {
    ByteRange range{offset, to.size()};
    most_in_flight = std::max(most_in_flight, ++in_flight);
    co_await executor_.yield();
    --in_flight;
    CO_TRY_VOID(check(range));
    to.copy_from(std::span<const uint8_t>(bytes_.data() + offset, to.size()));
    co_return Result<void>();
  }
  Async<> write(uint64_t offset, IoSlice from, block::WriteFlags flags) override {
    ByteRange range{offset, from.size()};
    writes.push_back(range);
    flags.tell_placed();
    most_writing = std::max(most_writing, ++writing);
    co_await executor_.yield();
    --writing;
    CO_TRY_VOID(check(range));
    from.copy_to(std::span<uint8_t>(bytes_.data() + offset, from.size()));
    co_return Result<void>();
  }
  Async<> write_zeroes(ByteRange range, block::ZeroFlags) override {
    zeroes.push_back(range);
    CO_TRY_VOID(check(range));
    std::memset(bytes_.data() + range.offset, 0, range.length);
    co_return Result<void>();
  }
  Async<> discard(ByteRange) override { co_return Result<void>(); }
  Async<> flush() override { co_return Result<void>(); }
  Async<block::Extent> map(ByteRange range) override {
    block::Extent extent;
    uint64_t end = std::min(range.end(), (range.offset / map_step + 1) * map_step);
    extent.range = {range.offset, end - range.offset};
    extent.allocated = true;
    extent.zero = is_all_zero(std::span<const uint8_t>(bytes_.data() + range.offset,
                                                       static_cast<size_t>(end - range.offset)));
    extent.data = !extent.zero;
    co_return extent;
  }
  Async<> truncate(uint64_t size, block::Preallocation) override {
    bytes_.resize(size);
    co_return Result<void>();
  }
  Async<> close() override { co_return Result<void>(); }
  const std::string& name() const override { return name_; }
  const char* format() const override { return "memory"; }

 private:
  Result<void> check(ByteRange range) const {
    auto bad = bad_bytes.lower_bound(range.offset);
    if (bad != bad_bytes.end() && *bad < range.end()) return Error::from_errno(EIO);
    return {};
  }

  Executor& executor_;
  std::vector<uint8_t> bytes_;
  block::Limits limits_;
  std::string name_ = "memory";
};

}  // namespace calf
