#include "block/nbd/client_node.h"

#include <algorithm>
#include <cerrno>

namespace calf::nbd {
namespace {

// Commands without data: as much as a 32-bit length holds, aligned.
constexpr uint64_t kMaxCommand = uint64_t{1} << 31;
constexpr size_t kZeroBuffer = 1 << 20;

}  // namespace

ClientNode::ClientNode(Executor& executor, std::unique_ptr<ClientConnection> connection,
                       ClientOptions options)
    : connection_(std::move(connection)),
      writable_(options.writable),
      bitmap_(options.context != kAllocationContext),
      name_(std::move(options.name)) {
  limits_.write_unit = connection_->info().min_block;
  limits_.discard_granularity = offers(kSendTrim) ? limits_.write_unit : 0;
  if (limits_.write_unit <= 1) return;
  block::WholeSectors::Disk& disk = *this;
  blocks_.emplace(executor, disk, limits_.write_unit);
}

Async<std::unique_ptr<ClientNode>> ClientNode::open(Executor& executor, ClientOptions options) {
  SocketAddress address = options.address;
  CO_TRY(StreamSocket socket, co_await StreamSocket::connect(executor, std::move(address)));
  co_return co_await open(executor, std::move(socket), std::move(options));
}

Async<std::unique_ptr<ClientNode>> ClientNode::open(Executor& executor, StreamSocket socket,
                                                    ClientOptions options) {
  std::string name = options.export_name;
  std::string context = options.context;
  CO_TRY(std::unique_ptr<ClientConnection> connection,
         co_await ClientConnection::open(executor, std::move(socket), std::move(name),
                                         std::move(context)));
  bool refused = options.writable && connection->info().has(kReadOnly);
  bool no_bitmap = options.context != kAllocationContext && !connection->info().context;
  std::unique_ptr<ClientNode> node(
      new ClientNode(executor, std::move(connection), std::move(options)));
  if (refused || no_bitmap) {
    Result<void> ignored = co_await node->close();
    if (refused) co_return Error(ErrorKind::kReadOnly, EACCES, "request on read-only export");
    co_return Error(ErrorKind::kNotFound, "requested x-dirty-bitmap not found");
  }
  co_return node;
}

Async<> ClientNode::read(uint64_t offset, IoSlice to) {
  return blocks_ ? blocks_->read(offset, to) : read_sectors(offset, to);
}

Async<> ClientNode::read_sectors(uint64_t offset, IoSlice to) {
  // Behind the end there are zeroes.
  uint64_t there = std::min<uint64_t>(to.size(), size() - std::min(size(), offset));
  to.slice(static_cast<size_t>(there), to.size() - static_cast<size_t>(there)).fill(0);
  uint64_t most = connection_->info().max_block;
  for (uint64_t done = 0; done < there;) {
    uint64_t part = std::min(there - done, most);
    IoSlice slice = to.slice(static_cast<size_t>(done), static_cast<size_t>(part));
    CO_TRY_VOID(co_await connection_->read(offset + done, slice));
    done += part;
  }
  co_return Result<void>();
}

Result<void> ClientNode::check_writable(ByteRange range) const {
  if (!writable_) return Error(ErrorKind::kReadOnly, EPERM, "The export is open read-only");
  if (range.offset > size() || range.length > size() - range.offset) {
    return Error::from_errno(ENOSPC);
  }
  return {};
}

Async<> ClientNode::write(uint64_t offset, IoSlice from, block::WriteFlags flags) {
  ByteRange range{offset, from.size()};
  CO_TRY_VOID(check_writable(range));
  const bool fua = flags.fua && !blocks_ && offers(kSendFua);
  if (blocks_) {
    CO_TRY_VOID(co_await blocks_->write(offset, from));
  } else {
    CO_TRY_VOID(co_await write_requests(offset, from, fua));
  }
  if (flags.fua && !fua) co_return co_await flush();
  co_return Result<void>();
}

Async<> ClientNode::write_sectors(uint64_t offset, IoSlice from) {
  return write_requests(offset, from, false);
}

Async<> ClientNode::write_requests(uint64_t offset, IoSlice from, bool fua) {
  uint64_t most = connection_->info().max_block;
  for (uint64_t done = 0; done < from.size();) {
    uint64_t part = std::min(from.size() - done, most);
    IoSlice slice = from.slice(static_cast<size_t>(done), static_cast<size_t>(part));
    CO_TRY_VOID(co_await connection_->write(offset + done, slice, fua));
    done += part;
  }
  co_return Result<void>();
}

Async<> ClientNode::over(Command command, uint16_t flags, ByteRange range) {
  while (!range.empty()) {
    ByteRange part{range.offset, std::min(range.length, kMaxCommand)};
    CO_TRY_VOID(co_await connection_->command(command, flags, part));
    range.offset += part.length;
    range.length -= part.length;
  }
  co_return Result<void>();
}

Async<> ClientNode::write_zeroes(ByteRange range, block::ZeroFlags flags) {
  CO_TRY_VOID(check_writable(range));
  if (!blocks_) co_return co_await zero_sectors(range, flags);
  CO_TRY_VOID(co_await blocks_->write_zeroes(range, flags));
  if (flags.fua) co_return co_await flush();
  co_return Result<void>();
}

Async<> ClientNode::zero_sectors(ByteRange range, block::ZeroFlags flags) {
  if (offers(kSendWriteZeroes)) {
    bool fua = flags.fua && offers(kSendFua);
    uint16_t wire = (flags.may_unmap ? 0 : kNoHole) | (fua ? kFua : 0);
    CO_TRY_VOID(co_await over(Command::kWriteZeroes, wire, range));
    if (flags.fua && !fua) co_return co_await flush();
    co_return Result<void>();
  }
  std::vector<uint8_t> zeroes(std::min<uint64_t>(range.length, kZeroBuffer));
  for (uint64_t done = 0; done < range.length;) {
    size_t part = std::min<size_t>(zeroes.size(), range.length - done);
    FlatIo io(std::span<const uint8_t>(zeroes).first(part));
    CO_TRY_VOID(co_await write_sectors(range.offset + done, io.slice()));
    done += part;
  }
  if (flags.fua) co_return co_await flush();
  co_return Result<void>();
}

Async<> ClientNode::discard(ByteRange range) {
  CO_TRY_VOID(check_writable(range));
  if (blocks_) range = blocks_->whole(range);
  if (!offers(kSendTrim) || range.empty()) co_return Result<void>();
  co_return co_await over(Command::kTrim, 0, range);
}

Async<> ClientNode::flush() {
  if (!writable_ || !offers(kSendFlush)) co_return Result<void>();
  ByteRange nothing;
  co_return co_await connection_->command(Command::kFlush, 0, nothing);
}

Async<block::Extent> ClientNode::map(ByteRange range) {
  block::Extent extent;
  extent.range = range;
  extent.allocated = true;
  extent.data = true;
  extent.host_offset = range.offset;
  extent.host_file = &name_;
  if (!connection_->info().context) co_return extent;
  ByteRange asked{range.offset, std::min(range.length, kMaxCommand)};
  if (blocks_) asked = blocks_->touched(asked);
  CO_TRY(StatusExtent status, co_await connection_->block_status(asked));
  // A server that tells of less than a block tells of nothing.
  const uint64_t told = align_up(status.length, limits_.write_unit);
  extent.range = ByteRange{asked.offset, told}.intersect(range);
  if (bitmap_) {
    // As QEMU's client shows it: what is dirty seems to have no data.
    extent.data = (status.flags & 1) == 0;
  } else {
    extent.data = (status.flags & kStateHole) == 0;
    extent.zero = (status.flags & kStateZero) != 0;
  }
  co_return extent;
}

Async<> ClientNode::truncate(uint64_t size, block::Preallocation) {
  CO_TRY_VOID(check_writable({}));
  if (size > this->size()) co_return Error(ErrorKind::kInvalid, EINVAL, "Cannot grow NBD nodes");
  co_return Result<void>();
}

Async<> ClientNode::close() {
  return connection_->disconnect();
}

}  // namespace calf::nbd
