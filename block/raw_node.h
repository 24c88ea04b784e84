// RawNode: a file whose bytes are the disk, all of them or a window:
//
//     file   |------|xxxxxxxxxxxxx|----|
//                   ^offset       ^offset + size
//
// The disk has whole sectors: a file that ends inside one is read as if it were filled up with
// zeroes, and written there it grows to a whole one. Growing is otherwise refused by the callers'
// promise to stay inside size().
//
// A raw node that came out of probing guards the first sector (see probe.h): a write that would
// make the file look like another format fails with EPERM.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "block/host_copy.h"
#include "block/node.h"

namespace calf::block {

class RawNode final : public Node, public HostCopy {
 public:
  static constexpr uint32_t kSector = 512;

  struct Options {
    // A writer of this disk asked for it. The file may still be writable for others' sake.
    bool writable = false;
    // Format guessed: guard the head.
    bool probed = false;
    // Where the disk begins in the file.
    uint64_t offset = 0;
    // Its size, a multiple of the sector; without it the disk reaches to the end of the file.
    std::optional<uint64_t> size;
  };

  // Fails if the window does not lie in the file.
  static Result<void> check(const Node& file, const Options& options);
  RawNode(std::unique_ptr<Node> file, Options options);

  uint64_t size() const override;
  const Limits& limits() const override { return limits_; }
  bool read_only() const override { return !options_.writable || file_->read_only(); }
  Async<> read(uint64_t offset, IoSlice to) override;
  Async<> write(uint64_t offset, IoSlice from, WriteFlags flags) override;
  Async<> write_zeroes(ByteRange range, ZeroFlags flags) override;
  Async<> discard(ByteRange range) override;
  Async<> flush() override;
  Async<Extent> map(ByteRange range) override;
  Async<> truncate(uint64_t size, Preallocation preallocation) override;
  Async<> close() override;
  std::optional<HostBytes> host_bytes(uint64_t offset) override;
  Async<> copy_in(ByteRange range, HostBytes from) override;
  const std::string& name() const override { return file_->name(); }
  const char* format() const override { return "raw"; }

  Node& file() const { return *file_; }

 private:
  Async<> check_head(uint64_t offset, IoSlice from);

  std::unique_ptr<Node> file_;
  Options options_;
  Limits limits_;
};

}  // namespace calf::block
