// FileNode's share in copies inside the kernel (host_copy.h): regular files without O_DIRECT.

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "block/file_node.h"

namespace calf::block {
namespace {

// 0 or an errno. Runs on a worker thread.
int copy_bytes(HostBytes from, int to_fd, ByteRange to) {
  auto in = static_cast<off_t>(from.offset);
  auto out = static_cast<off_t>(to.offset);
  uint64_t left = to.length;
  while (left != 0) {
    const ssize_t n = ::copy_file_range(from.fd, &in, to_fd, &out, static_cast<size_t>(left), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    // The source has ended.
    if (n == 0) return ENODATA;
    left -= static_cast<uint64_t>(n);
  }
  return 0;
}

}  // namespace

std::optional<HostBytes> FileNode::host_bytes(uint64_t offset) {
  if (block_device_ || is_direct()) return std::nullopt;
  return HostBytes{fd_.get(), offset};
}

Async<> FileNode::copy_in(ByteRange range, HostBytes from) {
  if (block_device_ || is_direct()) co_return Error::from_errno(EOPNOTSUPP);
  if (range.end() > kMaxFileSize) co_return Error::from_errno(EFBIG);
  CO_TRY_VOID(check_writable(range));
  const int fd = fd_.get();
  int error = co_await executor_.offload([from, fd, range] { return copy_bytes(from, fd, range); });
  holes_.forget();
  if (error != 0) co_return Error::from_errno(error);
  size_ = std::max(size_, range.end());
  co_return Result<void>();
}

}  // namespace calf::block
