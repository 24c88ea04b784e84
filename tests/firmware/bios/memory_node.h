// A disk in memory, and the thread that its executor runs on.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "block/io/executor.h"
#include "block/node.h"

namespace calf::firmware {

class MemoryNode final : public block::Node {
 public:
  explicit MemoryNode(size_t size) : bytes(size) {}
  explicit MemoryNode(std::vector<uint8_t> content) : bytes(std::move(content)) {}

  uint64_t size() const override { return bytes.size() + tail; }
  const block::Limits& limits() const override { return limits_; }
  bool read_only() const override { return false; }

  Async<> read(uint64_t offset, IoSlice to) override {
    ++reads;
    if (!check(offset, to.size())) co_return refused();
    std::vector<uint8_t> copy(to.size(), kTailByte);
    if (offset < bytes.size()) {
      size_t n = std::min<size_t>(copy.size(), bytes.size() - offset);
      std::memcpy(copy.data(), bytes.data() + offset, n);
    }
    to.copy_from(std::span<const uint8_t>(copy));
    co_return Result<void>{};
  }
  Async<> write(uint64_t offset, IoSlice from, block::WriteFlags) override {
    ++writes;
    if (!check(offset, from.size()) || offset + from.size() > bytes.size()) co_return refused();
    from.copy_to(std::span(bytes).subspan(offset, from.size()));
    co_return Result<void>{};
  }
  Async<> flush() override {
    ++flushes;
    if (broken) co_return refused();
    co_return Result<void>{};
  }
  Async<> write_zeroes(ByteRange, block::ZeroFlags) override { co_return refused(); }
  Async<> discard(ByteRange) override { co_return refused(); }
  Async<block::Extent> map(ByteRange) override { co_return Result<block::Extent>(refused()); }
  Async<> truncate(uint64_t, block::Preallocation) override { co_return refused(); }
  Async<> close() override { co_return Result<void>{}; }
  const std::string& name() const override { return name_; }
  const char* format() const override { return "memory"; }

  static constexpr uint8_t kTailByte = 0x77;
  std::vector<uint8_t> bytes;
  uint64_t tail = 0;     // bytes behind them that read as kTailByte
  bool broken = false;   // every request fails
  bool outside = false;  // a request was not inside the size
  int reads = 0;
  int writes = 0;
  int flushes = 0;

 private:
  static Error refused() { return Error(ErrorKind::kIo, "the test says no"); }
  bool check(uint64_t offset, uint64_t length) {
    const bool inside = offset <= size() && length <= size() - offset;
    if (!inside) outside = true;
    return inside && !broken;
  }

  block::Limits limits_;
  std::string name_ = "memory";
};

// An executor that runs on a thread of its own while this object lives.
class RunningExecutor {
 public:
  RunningExecutor() {
    Executor::Options options;
    options.engine = Executor::Engine::kThreads;
    executor_ = std::move(*Executor::create(options));
    thread_ = std::thread([this] { executor_->run_until_stopped(); });
  }
  ~RunningExecutor() {
    executor_->stop();
    thread_.join();
  }
  Executor* get() { return executor_.get(); }

 private:
  std::unique_ptr<Executor> executor_;
  std::thread thread_;
};

}  // namespace calf::firmware
