#include "block/raw_node.h"

#include <algorithm>
#include <cerrno>

#include "block/probe.h"

namespace calf::block {

RawNode::RawNode(std::unique_ptr<Node> file, Options options)
    : file_(std::move(file)), options_(options), limits_(file_->limits()) {}

uint64_t RawNode::size() const {
  return align_up(file_->size(), kSector);
}

Async<> RawNode::read(uint64_t offset, IoSlice to) {
  return file_->read(offset, to);  // the file gives zeroes behind its end
}

Async<> RawNode::write(uint64_t offset, IoSlice from, WriteFlags flags) {
  if (!options_.writable) co_return Error(ErrorKind::kReadOnly, EPERM, "The disk is read-only");
  if (options_.probed && offset < kSector) CO_TRY_VOID(co_await check_head(offset, from));
  co_return co_await file_->write(offset, from, flags);
}

Async<> RawNode::check_head(uint64_t offset, IoSlice from) {
  uint8_t head[kSector];
  FlatIo io{std::span<uint8_t>(head)};
  CO_TRY_VOID(co_await file_->read(0, io.slice()));
  size_t count = std::min<size_t>(from.size(), kSector - static_cast<size_t>(offset));
  from.slice(0, count).copy_to(std::span(head).subspan(static_cast<size_t>(offset), count));
  if (probe_format(head) != "raw") co_return Error::from_errno(EPERM);
  co_return Result<void>();
}

Async<> RawNode::write_zeroes(ByteRange range, ZeroFlags flags) {
  if (!options_.writable) co_return Error(ErrorKind::kReadOnly, EPERM, "The disk is read-only");
  co_return co_await file_->write_zeroes(range, flags);
}

Async<> RawNode::discard(ByteRange range) {
  if (!options_.writable) co_return Error(ErrorKind::kReadOnly, EPERM, "The disk is read-only");
  co_return co_await file_->discard(range);
}

Async<> RawNode::flush() {
  return file_->flush();
}

Async<Extent> RawNode::map(ByteRange range) {
  uint64_t file_size = file_->size();
  if (range.offset < file_size) {
    ByteRange inside = range.intersect({0, file_size});
    co_return co_await file_->map(inside);
  }
  Extent tail;
  tail.range = range;
  tail.allocated = true;
  tail.zero = true;
  tail.host_offset = range.offset;
  tail.host_file = &file_->name();
  co_return tail;
}

Async<> RawNode::truncate(uint64_t size, Preallocation preallocation) {
  if (!options_.writable) co_return Error(ErrorKind::kReadOnly, EPERM, "The disk is read-only");
  co_return co_await file_->truncate(size, preallocation);
}

Async<> RawNode::close() {
  return file_->close();
}

}  // namespace calf::block
