// What O_DIRECT asks of a FileNode: aligned transfers, and blocks that are read, changed and
// written back by one request at a time.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "block/file_node.h"
#include "block/io/aligned_buffer.h"

namespace calf::block {

// The smallest alignment that the file system takes. Asked by trying, as statx() does not know
// before Linux 6.1; a wrong answer for an empty file (nothing is read, so nothing is checked by
// some file systems) is avoided by taking the page size there.
Result<void> FileNode::find_direct_alignment() {
  block_ = 4096;
  int sector = 0;
  if (block_device_ && ::ioctl(fd_.get(), BLKSSZGET, &sector) == 0 && sector > 0 &&
      is_power_of_two(static_cast<uint64_t>(sector))) {
    block_ = static_cast<uint32_t>(sector);
  } else if (size_ != 0) {
    AlignedBuffer buffer(4096);
    for (uint32_t candidate : {512U, 1024U, 2048U, 4096U}) {
      if (::pread(fd_.get(), buffer.data(), candidate, 0) >= 0 || errno != EINVAL) {
        block_ = candidate;
        break;
      }
    }
  }
  limits_.memory_alignment = block_;
  return {};
}

Task<FileNode::BusyGuard> FileNode::enter(ByteRange range, bool exclusive) {
  if (!is_direct()) co_return BusyGuard();
  uint64_t first = align_down(range.offset, block_);
  ByteRange blocks{first, align_up(range.end(), block_) - first};
  auto conflicts = [&](const Busy& busy) {
    return (exclusive || busy.exclusive) && busy.blocks.overlaps(blocks);
  };
  while (std::any_of(busy_.begin(), busy_.end(), conflicts))
    co_await busy_changed_.wait();
  busy_.push_front({blocks, exclusive});
  co_return BusyGuard(this, busy_.begin());
}

Async<> FileNode::read_bounced(uint64_t offset, IoSlice to) {
  size_t done = 0;
  while (done < to.size()) {
    size_t part = std::min(to.size() - done, kMaxBounce);
    uint64_t first = align_down(offset + done, block_);
    uint64_t last = align_up(offset + done + part, block_);
    AlignedBuffer buffer(static_cast<size_t>(last - first));
    FlatIo io(buffer.span());
    CO_TRY_VOID(co_await transfer(false, first, io.slice(), 0));
    size_t skip = static_cast<size_t>(offset + done - first);
    to.slice(done, part).copy_from(std::span<const uint8_t>(buffer.data() + skip, part));
    done += part;
  }
  co_return Result<void>();
}

Async<> FileNode::write_direct(uint64_t offset, IoSlice from, int rw_flags) {
  ByteRange range{offset, from.size()};
  bool whole_blocks = is_aligned(offset, block_) && is_aligned(from.size(), block_);
  BusyGuard guard = co_await enter(range, !whole_blocks);
  // Known before it is there: trim_padding() of another request must not cut this one off.
  if (!block_device_) size_ = std::max(size_, range.end());
  if (whole_blocks && from.is_aligned_to(limits_.memory_alignment)) {
    co_return co_await transfer(true, offset, from, rw_flags);
  }
  size_t done = 0;
  while (done < from.size()) {
    // Steps end on block borders, so that only the outer blocks of all are read.
    uint64_t start = offset + done;
    uint64_t stop = std::min(range.end(), align_down(start + kMaxBounce, block_));
    ByteRange part{start, stop - start};
    CO_TRY_VOID(
        co_await write_bounced(part, from.slice(done, static_cast<size_t>(part.length)), rw_flags));
    done += static_cast<size_t>(part.length);
  }
  co_return trim_padding(align_up(range.end(), block_));
}

// Writes `range`, read-modify-write at its ends. The blocks are ours (enter()) if it has any.
Async<> FileNode::write_bounced(ByteRange range, IoSlice from, int rw_flags) {
  uint64_t first = align_down(range.offset, block_);
  uint64_t last = align_up(range.end(), block_);
  AlignedBuffer buffer(static_cast<size_t>(last - first));
  size_t skip = static_cast<size_t>(range.offset - first);
  uint64_t tail = align_down(range.end(), block_);
  if (skip != 0 || range.end() < first + block_) {
    FlatIo head(buffer.span().subspan(0, block_));
    CO_TRY_VOID(co_await transfer(false, first, head.slice(), 0));
  }
  if (tail != range.end() && tail > first) {
    FlatIo end(buffer.span().subspan(static_cast<size_t>(tail - first), block_));
    CO_TRY_VOID(co_await transfer(false, tail, end.slice(), 0));
  }
  from.copy_to(buffer.span().subspan(skip, static_cast<size_t>(range.length)));
  FlatIo all(buffer.span());
  co_return co_await transfer(true, first, all.slice(), rw_flags);
}

// A padded write may have made the file longer than it is said to be. Not awaited: nothing can be
// submitted between the look at size_ and the cut.
Result<void> FileNode::trim_padding(uint64_t written_end) {
  if (block_device_ || written_end <= std::max(size_, host_size_)) return {};
  return set_host_size(size_);
}

}  // namespace calf::block
