// A node whose bytes are a vector: it counts what is asked of it, fails on request, and holds
// requests back until the test lets them go. Executor's thread, but for hold(), release() and the
// counters.
#pragma once

#include <atomic>
#include <cassert>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "block/io/executor.h"
#include "block/io/sync.h"
#include "block/node.h"

namespace calf::block {

class MemoryNode final : public Node {
 public:
  MemoryNode(Executor& executor, uint64_t size, Limits limits = {}, bool read_only = false)
      : executor_(&executor),
        bytes_(size),
        limits_(limits),
        read_only_(read_only),
        held_queue_(executor) {}

  // The disk's content. Not while requests are in flight.
  std::vector<uint8_t>& bytes() { return bytes_; }

  // From now on requests wait in the node.
  void hold() { holding_ = true; }
  // Any thread: the waiting ones go on.
  void release() {
    holding_ = false;
    executor_->post([this] { held_queue_.wake_all(); });
  }
  // The next requests for which it returns an error fail with that. Set before requests come.
  void fail_with(std::function<std::optional<Error>(const char* operation)> failure) {
    failure_ = std::move(failure);
  }

  std::atomic<int> reads = 0, writes = 0, fua_writes = 0, flushes = 0, discards = 0, zeroes = 0,
                   unmaps = 0, waiting = 0;

  uint64_t size() const override { return bytes_.size(); }
  const Limits& limits() const override { return limits_; }
  bool read_only() const override { return read_only_; }

  Async<> read(uint64_t offset, IoSlice to) override {
    assert(offset + to.size() <= bytes_.size());
    ++reads;
    CO_TRY_VOID(co_await enter("read"));
    to.copy_from(std::span(bytes_).subspan(offset, to.size()));
    co_return Result<void>();
  }
  Async<> write(uint64_t offset, IoSlice from, WriteFlags flags) override {
    assert(offset + from.size() <= bytes_.size() && !read_only_);
    ++writes;
    if (flags.fua) ++fua_writes;
    CO_TRY_VOID(co_await enter("write"));
    from.copy_to(std::span(bytes_).subspan(offset, from.size()));
    co_return Result<void>();
  }
  Async<> write_zeroes(ByteRange range, ZeroFlags flags) override {
    assert(range.end() <= bytes_.size() && !read_only_);
    ++zeroes;
    if (flags.may_unmap) ++unmaps;
    CO_TRY_VOID(co_await enter("write_zeroes"));
    std::memset(bytes_.data() + range.offset, 0, range.length);
    co_return Result<void>();
  }
  Async<> discard(ByteRange range) override {
    assert(range.end() <= bytes_.size() && !read_only_);
    ++discards;
    CO_TRY_VOID(co_await enter("discard"));
    // A hint; this node follows it in a way that shows.
    std::memset(bytes_.data() + range.offset, 0, range.length);
    co_return Result<void>();
  }
  Async<> flush() override {
    ++flushes;
    CO_TRY_VOID(co_await enter("flush"));
    co_return Result<void>();
  }
  Async<Extent> map(ByteRange range) override {
    Extent extent;
    extent.range = range;
    extent.allocated = extent.data = true;
    co_return extent;
  }
  Async<> truncate(uint64_t size, Preallocation) override {
    bytes_.resize(size);
    co_return Result<void>();
  }
  Async<> close() override { co_return Result<void>(); }
  const std::string& name() const override { return name_; }
  const char* format() const override { return "memory"; }

 private:
  Async<> enter(const char* operation) {
    ++waiting;
    if (holding_) {
      while (holding_)
        co_await held_queue_.wait();
    } else {
      co_await executor_->yield();
    }
    --waiting;
    if (failure_) {
      if (std::optional<Error> error = failure_(operation)) co_return std::move(*error);
    }
    co_return Result<void>();
  }

  Executor* executor_;
  std::vector<uint8_t> bytes_;
  Limits limits_;
  bool read_only_;
  std::string name_ = "memory";
  std::atomic<bool> holding_ = false;
  WaitQueue held_queue_;
  std::function<std::optional<Error>(const char*)> failure_;
};

}  // namespace calf::block
