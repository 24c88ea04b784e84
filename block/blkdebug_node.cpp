#include "block/blkdebug_node.h"

#include <algorithm>

namespace calf::block {

BlkdebugNode::BlkdebugNode(Executor& executor, std::unique_ptr<Node> below, BlkdebugRules rules,
                           uint32_t block)
    : below_(std::move(below)), rules_(std::move(rules)), limits_(below_->limits()) {
  if (block <= 1) return;
  limits_.write_unit = std::max(limits_.write_unit, block);
  WholeSectors::Disk& disk = *this;
  blocks_.emplace(executor, disk, block);
}

Result<void> BlkdebugNode::judge(BlkdebugIo io, ByteRange range) {
  int error = rules_.judge(io, range);
  if (error != 0) return Error::from_errno(error);
  return {};
}

Async<> BlkdebugNode::read(uint64_t offset, IoSlice to) {
  return blocks_ ? blocks_->read(offset, to) : read_sectors(offset, to);
}

Async<> BlkdebugNode::read_sectors(uint64_t offset, IoSlice to) {
  CO_TRY_VOID(judge(BlkdebugIo::kRead, {offset, to.size()}));
  co_return co_await below_->read(offset, to);
}

Async<> BlkdebugNode::write(uint64_t offset, IoSlice from, WriteFlags flags) {
  if (!blocks_) co_return co_await write_judged(offset, from, flags);
  CO_TRY_VOID(co_await blocks_->write(offset, from));
  if (flags.fua) co_return co_await flush();
  co_return Result<void>();
}

Async<> BlkdebugNode::write_sectors(uint64_t offset, IoSlice from) {
  const WriteFlags flags;
  return write_judged(offset, from, flags);
}

Async<> BlkdebugNode::write_judged(uint64_t offset, IoSlice from, WriteFlags flags) {
  CO_TRY_VOID(judge(BlkdebugIo::kWrite, {offset, from.size()}));
  co_return co_await below_->write(offset, from, flags);
}

Async<> BlkdebugNode::write_zeroes(ByteRange range, ZeroFlags flags) {
  if (!blocks_) co_return co_await zero_sectors(range, flags);
  CO_TRY_VOID(co_await blocks_->write_zeroes(range, flags));
  if (flags.fua) co_return co_await flush();
  co_return Result<void>();
}

Async<> BlkdebugNode::zero_sectors(ByteRange range, ZeroFlags flags) {
  CO_TRY_VOID(judge(BlkdebugIo::kWriteZeroes, range));
  co_return co_await below_->write_zeroes(range, flags);
}

Async<> BlkdebugNode::discard(ByteRange range) {
  if (blocks_) range = blocks_->whole(range);
  if (range.empty()) co_return Result<void>();
  CO_TRY_VOID(judge(BlkdebugIo::kDiscard, range));
  co_return co_await below_->discard(range);
}

Async<> BlkdebugNode::flush() {
  ByteRange nothing;
  CO_TRY_VOID(judge(BlkdebugIo::kFlush, nothing));
  co_return co_await below_->flush();
}

Async<Extent> BlkdebugNode::map(ByteRange range) {
  CO_TRY_VOID(judge(BlkdebugIo::kBlockStatus, range));
  co_return co_await below_->map(range);
}

Async<> BlkdebugNode::truncate(uint64_t size, Preallocation preallocation) {
  return below_->truncate(size, preallocation);
}

Async<> BlkdebugNode::close() {
  return below_->close();
}

}  // namespace calf::block
