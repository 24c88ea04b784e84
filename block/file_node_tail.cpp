// A file that is written past its end is made longer ahead of the writes, in steps: the host finds
// its blocks in one piece, and neither a write with O_DIRECT (one at a time where a file grows, by
// a worker of the kernel) nor one to the page cache (each page asks for a block) has to.
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "block/file_node.h"

namespace calf::block {

Task<void> FileNode::reserve_tail(uint64_t end) {
  constexpr uint64_t kSmallestStep = uint64_t{1} << 20;
  constexpr uint64_t kLargestStep = uint64_t{16} << 20;
  // A file that stays small is written in less time than that takes.
  if (!is_direct() && host_size_ < kSmallestStep) co_return;
  AsyncMutex::Guard guard = co_await reserve_mutex_.lock();
  if (!can_reserve_ || end <= host_size_) co_return;
  const uint64_t step = std::clamp(host_size_ / 8, kSmallestStep, kLargestStep);
  // A write far behind the end leaves a hole, as it should.
  if (end - host_size_ > kLargestStep) co_return;
  ByteRange tail{host_size_, align_up(end + step, kSmallestStep) - host_size_};
  Result<void> done = Error::from_errno(EFBIG);
  if (tail.end() <= kMaxFileSize) done = co_await fallocate(0, tail);
  // Not possible here, or no space: the write tells.
  if (!done.ok()) {
    can_reserve_ = false;
    co_return;
  }
  host_size_ = std::max(host_size_, tail.end());
}

Result<void> FileNode::set_host_size(uint64_t size) {
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) return Error::from_errno(errno);
  host_size_ = size;
  return {};
}

}  // namespace calf::block
