// The operations of an engine as the system calls that they are.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "block/io/io_engine.h"

namespace calf {

int64_t perform(const IoOp& op) {
  ssize_t r = -1;
  do {
    switch (op.code) {
      case IoOp::Code::kReadv:
        r = ::preadv(op.file.fd, op.iov, static_cast<int>(op.iov_count),
                     static_cast<off_t>(op.offset));
        break;
      case IoOp::Code::kWritev:
        r = ::pwritev2(op.file.fd, op.iov, static_cast<int>(op.iov_count),
                       static_cast<off_t>(op.offset), op.flags);
        break;
      case IoOp::Code::kFdatasync:
        r = ::fdatasync(op.file.fd);
        break;
      case IoOp::Code::kFallocate:
        r = ::fallocate(op.file.fd, op.flags, static_cast<off_t>(op.offset),
                        static_cast<off_t>(op.length));
        break;
      case IoOp::Code::kOpen:
        r = ::open(op.path, op.flags, static_cast<mode_t>(op.length));
        break;
      case IoOp::Code::kPollIn:
      case IoOp::Code::kTimeout:
        return -EINVAL;  // nothing that one thread waits for
    }
  } while (r < 0 && errno == EINTR);
  return r < 0 ? -errno : r;
}

}  // namespace calf
