// BlkdebugNode: passes requests on, or fails them as its rules say (blkdebug_rules.h). It can
// insist on whole blocks: what comes unaligned is then read, changed and written back.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "block/blkdebug_rules.h"
#include "block/node.h"
#include "block/whole_sectors.h"

namespace calf::block {

class BlkdebugNode final : public Node, private WholeSectors::Disk {
 public:
  // `block`: requests to the node below are multiples of it.
  BlkdebugNode(Executor& executor, std::unique_ptr<Node> below, BlkdebugRules rules,
               uint32_t block);

  uint64_t size() const override { return below_->size(); }
  const Limits& limits() const override { return limits_; }
  bool read_only() const override { return below_->read_only(); }
  Async<> read(uint64_t offset, IoSlice to) override;
  Async<> write(uint64_t offset, IoSlice from, WriteFlags flags) override;
  Async<> write_zeroes(ByteRange range, ZeroFlags flags) override;
  Async<> discard(ByteRange range) override;
  Async<> flush() override;
  Async<Extent> map(ByteRange range) override;
  Async<> truncate(uint64_t size, Preallocation preallocation) override;
  Async<> close() override;
  Node* backing() const override { return below_->backing(); }
  const std::string& name() const override { return below_->name(); }
  const char* format() const override { return "blkdebug"; }

 private:
  Result<void> judge(BlkdebugIo io, ByteRange range);
  Async<> read_sectors(uint64_t offset, IoSlice to) override;
  Async<> write_sectors(uint64_t offset, IoSlice from) override;
  Async<> zero_sectors(ByteRange range, ZeroFlags flags) override;
  Async<> write_judged(uint64_t offset, IoSlice from, WriteFlags flags);

  std::unique_ptr<Node> below_;
  BlkdebugRules rules_;
  Limits limits_;
  // Nothing if any range will do.
  std::optional<WholeSectors> blocks_;
};

}  // namespace calf::block
