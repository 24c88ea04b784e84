#include "block/blkdebug_node.h"

namespace calf::block {

BlkdebugNode::BlkdebugNode(std::unique_ptr<Node> below, BlkdebugRules rules, uint32_t alignment)
    : below_(std::move(below)), rules_(std::move(rules)), limits_(below_->limits()) {
  if (alignment != 0) limits_.request_alignment = alignment;
}

Result<void> BlkdebugNode::judge(BlkdebugIo io, ByteRange range) {
  int error = rules_.judge(io, range);
  if (error != 0) return Error::from_errno(error);
  return {};
}

Async<> BlkdebugNode::read(uint64_t offset, IoSlice to) {
  CO_TRY_VOID(judge(BlkdebugIo::kRead, {offset, to.size()}));
  co_return co_await below_->read(offset, to);
}

Async<> BlkdebugNode::write(uint64_t offset, IoSlice from, WriteFlags flags) {
  CO_TRY_VOID(judge(BlkdebugIo::kWrite, {offset, from.size()}));
  co_return co_await below_->write(offset, from, flags);
}

Async<> BlkdebugNode::write_zeroes(ByteRange range, ZeroFlags flags) {
  CO_TRY_VOID(judge(BlkdebugIo::kWriteZeroes, range));
  co_return co_await below_->write_zeroes(range, flags);
}

Async<> BlkdebugNode::discard(ByteRange range) {
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
