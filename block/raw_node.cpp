#include "block/raw_node.h"

#include <algorithm>
#include <cerrno>

#include "block/probe.h"

namespace calf::block {

RawNode::RawNode(std::unique_ptr<Node> file, Options options)
    : file_(std::move(file)), options_(options), limits_(file_->limits()) {}

Result<void> RawNode::check(const Node& file, const Options& options) {
  uint64_t file_size = file.size();
  if (options.offset > file_size) {
    return make_error(ErrorKind::kInvalid,
                      "Offset ({}) cannot be greater than size of the containing file ({})",
                      options.offset, file_size);
  }
  if (!options.size) return {};
  if (*options.size > file_size - options.offset) {
    return make_error(ErrorKind::kInvalid,
                      "The sum of offset ({}) and size ({}) has to be smaller or equal to the  "
                      "actual size of the containing file ({})",
                      options.offset, *options.size, file_size);
  }
  if (*options.size % kSector != 0) {
    return make_error(ErrorKind::kInvalid, "Specified size is not multiple of {}", kSector);
  }
  return {};
}

uint64_t RawNode::size() const {
  if (options_.size) return *options_.size;
  uint64_t file_size = file_->size();
  return align_up(file_size - std::min(file_size, options_.offset), kSector);
}

Async<> RawNode::read(uint64_t offset, IoSlice to) {
  return file_->read(options_.offset + offset, to);  // the file gives zeroes behind its end
}

Async<> RawNode::write(uint64_t offset, IoSlice from, WriteFlags flags) {
  if (!options_.writable) co_return Error(ErrorKind::kReadOnly, EPERM, "The disk is read-only");
  if (options_.probed && offset < kSector) CO_TRY_VOID(co_await check_head(offset, from));
  co_return co_await file_->write(options_.offset + offset, from, flags);
}

Async<> RawNode::check_head(uint64_t offset, IoSlice from) {
  uint8_t head[kSector];
  FlatIo io{std::span<uint8_t>(head)};
  CO_TRY_VOID(co_await file_->read(options_.offset, io.slice()));
  size_t count = std::min<size_t>(from.size(), kSector - static_cast<size_t>(offset));
  from.slice(0, count).copy_to(std::span(head).subspan(static_cast<size_t>(offset), count));
  if (probe_format(head) != "raw") co_return Error::from_errno(EPERM);
  co_return Result<void>();
}

Async<> RawNode::write_zeroes(ByteRange range, ZeroFlags flags) {
  if (!options_.writable) co_return Error(ErrorKind::kReadOnly, EPERM, "The disk is read-only");
  range.offset += options_.offset;
  co_return co_await file_->write_zeroes(range, flags);
}

Async<> RawNode::discard(ByteRange range) {
  if (!options_.writable) co_return Error(ErrorKind::kReadOnly, EPERM, "The disk is read-only");
  range.offset += options_.offset;
  co_return co_await file_->discard(range);
}

Async<> RawNode::flush() {
  return file_->flush();
}

Async<Extent> RawNode::map(ByteRange range) {
  ByteRange inside{range.offset + options_.offset, range.length};
  uint64_t file_size = file_->size();
  Extent extent;
  if (inside.offset < file_size) {
    CO_TRY(extent, co_await file_->map(inside.intersect({0, file_size})));
    extent.range.offset -= options_.offset;
    co_return extent;
  }
  extent.range = range;
  extent.allocated = true;
  extent.zero = true;
  extent.host_offset = inside.offset;
  extent.host_file = &file_->name();
  co_return extent;
}

Async<> RawNode::truncate(uint64_t size, Preallocation preallocation) {
  if (!options_.writable) co_return Error(ErrorKind::kReadOnly, EPERM, "The disk is read-only");
  if (options_.size) {
    co_return Error(ErrorKind::kUnsupported, "Cannot resize fixed-size raw disks");
  }
  if (size > INT64_MAX - options_.offset) co_return Error::from_errno(EFBIG);
  const uint64_t wanted = options_.offset + size;
  CO_TRY_VOID(co_await file_->truncate(wanted, preallocation));
  if (file_->size() != wanted) co_return keeps_its_size(*file_);
  co_return Result<void>();
}

std::optional<HostBytes> RawNode::host_bytes(uint64_t offset) {
  auto* below = dynamic_cast<HostCopy*>(file_.get());
  if (below == nullptr) return std::nullopt;
  return below->host_bytes(options_.offset + offset);
}

Async<> RawNode::copy_in(ByteRange range, HostBytes from) {
  auto* below = dynamic_cast<HostCopy*>(file_.get());
  // A guarded head is to be looked at before it is written.
  const bool guarded = options_.probed && range.offset < kSector;
  if (below == nullptr || guarded) co_return Error::from_errno(EOPNOTSUPP);
  if (!options_.writable) co_return Error(ErrorKind::kReadOnly, EPERM, "The disk is read-only");
  range.offset += options_.offset;
  co_return co_await below->copy_in(range, from);
}

Async<> RawNode::close() {
  return file_->close();
}

}  // namespace calf::block
