// SimulatedFile: a file in memory under the engine, with the failures of a real one at hand.
//
//   - Requests may yield at random points, so that many interleave (seeded).
//   - Any operation can be made to fail with an errno.
//   - Every change is logged with the flushes between, so that a test can ask what the file may
//     look like after a power cut at any point: everything before the last flush, any part of the
//     rest, sector by sector.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "block/io/executor.h"
#include "block/node.h"

namespace calf::test {

// Sparse bytes with a size.
class Content {
 public:
  static constexpr uint64_t kPage = 4096;

  uint64_t size() const { return size_; }
  void resize(uint64_t size);
  void read(uint64_t offset, std::span<uint8_t> to) const;
  // Extends the size if it must.
  void write(uint64_t offset, std::span<const uint8_t> from);
  void zero(ByteRange range);
  // True if nothing was ever written there (pages are the unit).
  bool is_hole(ByteRange range) const;
  uint64_t allocated() const { return pages_.size() * kPage; }

 private:
  uint64_t size_ = 0;
  std::unordered_map<uint64_t, std::array<uint8_t, kPage>> pages_;
};

struct LoggedOp {
  enum class Kind : uint8_t { kWrite, kZero, kTruncate, kFlush };
  Kind kind;
  uint64_t offset = 0;  // kFlush: how many entries of the log it made durable
  uint64_t length = 0;
  std::vector<uint8_t> bytes;
};

// What survives the nodes that use it.
struct SimulatedDisk {
  Content content;
  // Everything since start_log(), which keeps the content of that moment.
  bool logging = false;
  Content at_start;
  std::vector<LoggedOp> log;

  void start_log();
  // The file after a cut when `prefix` entries of the log had happened. `random`: null keeps them
  // all; else what was not flushed is kept or lost sector by sector.
  Content after_cut(size_t prefix, std::mt19937_64* random) const;
};

class SimulatedFile final : public block::Node {
 public:
  enum class Op : uint8_t { kRead, kWrite, kZeroes, kDiscard, kFlush, kTruncate };

  struct Options {
    // Requests give way to others up to this many times before and after they take effect.
    unsigned max_yields = 0;
    uint64_t seed = 1;
    bool writable = true;
    // Like a block device: keeps its size and its content when it is cut.
    bool fixed_size = false;
    // Two files of one name are taken for one file.
    std::string name = "simulated";
    // Asked before each operation; an errno other than 0 makes it fail.
    std::function<int(Op op, ByteRange range)> fail;
  };

  SimulatedFile(Executor& executor, std::shared_ptr<SimulatedDisk> disk, Options options);

  uint64_t size() const override { return disk_->content.size(); }
  const block::Limits& limits() const override { return limits_; }
  bool read_only() const override { return !options_.writable; }
  Async<> read(uint64_t offset, IoSlice to) override;
  Async<> write(uint64_t offset, IoSlice from, block::WriteFlags flags) override;
  Async<> write_zeroes(ByteRange range, block::ZeroFlags flags) override;
  Async<> discard(ByteRange range) override;
  Async<> flush() override;
  Async<block::Extent> map(ByteRange range) override;
  Async<> truncate(uint64_t size, block::Preallocation preallocation) override;
  Async<> close() override;
  const std::string& name() const override { return options_.name; }
  const char* format() const override { return "file"; }

  uint64_t operations() const { return operations_; }

 private:
  Task<void> wander();
  Result<void> begin(Op op, ByteRange range);
  void log(LoggedOp op);

  Executor& executor_;
  std::shared_ptr<SimulatedDisk> disk_;
  Options options_;
  block::Limits limits_;
  std::mt19937_64 random_;
  uint64_t operations_ = 0;
};

}  // namespace calf::test
