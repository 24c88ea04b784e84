#include "block/qcow2/host_file.h"

#include <algorithm>

namespace calf::qcow2 {

HostFile::HostFile(std::unique_ptr<block::Node> node, bool unsafe_no_flush)
    : node_(std::move(node)), unsafe_no_flush_(unsafe_no_flush), high_water_(node_->size()) {}

Async<> HostFile::write(uint64_t offset, IoSlice from) {
  raise_high_water(offset + from.size());
  return node_->write(offset, from, {});
}

Async<> HostFile::read_bytes(uint64_t offset, std::span<uint8_t> bytes) {
  FlatIo io(bytes);
  co_return co_await read(offset, io.slice());
}

Async<> HostFile::write_bytes(uint64_t offset, std::span<const uint8_t> bytes) {
  FlatIo io(bytes);
  co_return co_await write(offset, io.slice());
}

Async<> HostFile::write_zeroes(ByteRange range, bool may_unmap) {
  const bool hole = range.offset >= high_water_;
  raise_high_water(range.end());
  // What lies behind everything that was written, or behind the end of the file, is zero as it is.
  range = range.intersect({0, size()});
  if (hole || range.empty()) co_return Result<void>();
  block::ZeroFlags flags;
  flags.may_unmap = may_unmap;
  co_return co_await node_->write_zeroes(range, flags);
}

Async<> HostFile::discard(ByteRange range) {
  range = range.intersect({0, size()});
  if (range.empty()) co_return Result<void>();
  co_return co_await node_->discard(range);
}

Async<> HostFile::flush() {
  if (unsafe_no_flush_) co_return Result<void>();
  co_return co_await node_->flush();
}

}  // namespace calf::qcow2
