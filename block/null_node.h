// NullNode: a disk that swallows what is written (null-co, null-aio). Reads give zeroes, but
// only with read-zeroes=on does map() promise so; each request takes latency-ns. For measuring, and
// for tests of what stands above.
#pragma once

#include <chrono>
#include <string>

#include "block/io/executor.h"
#include "block/node.h"

namespace calf::block {

class NullNode final : public Node {
 public:
  struct Options {
    uint64_t size = uint64_t{1} << 30;
    bool read_zeroes = false;
    std::chrono::nanoseconds latency{0};
    bool writable = false;
  };

  // `driver` is a literal: "null-co" or "null-aio".
  NullNode(Executor& executor, const char* driver, Options options);

  uint64_t size() const override { return options_.size; }
  const Limits& limits() const override { return limits_; }
  bool read_only() const override { return !options_.writable; }
  Async<> read(uint64_t offset, IoSlice to) override;
  Async<> write(uint64_t offset, IoSlice from, WriteFlags flags) override;
  Async<> write_zeroes(ByteRange range, ZeroFlags flags) override;
  Async<> discard(ByteRange range) override;
  Async<> flush() override;
  Async<Extent> map(ByteRange range) override;
  Async<> truncate(uint64_t size, Preallocation preallocation) override;
  Async<> close() override;
  const std::string& name() const override { return name_; }
  const char* format() const override { return driver_; }

 private:
  Async<> answer();

  Executor& executor_;
  const char* driver_;
  Options options_;
  Limits limits_;
  std::string name_;
};

}  // namespace calf::block
