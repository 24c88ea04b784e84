#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>

#include "tests/bench/limits/limits.h"

namespace calf::bench {
namespace {

constexpr uint64_t kBlock = 4096;

struct Freed {
  void operator()(void* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<char, Freed>;

class RandomBlock {
 public:
  explicit RandomBlock(uint64_t bytes) : blocks_(0, bytes / kBlock - 1) {}
  uint64_t next() { return blocks_(engine_) * kBlock; }

 private:
  std::mt19937_64 engine_{1};
  std::uniform_int_distribution<uint64_t> blocks_;
};

int one_by_one(int fd, const IoLimit& limit, RandomBlock& place, char* buffer) {
  for (uint64_t i = 0; i < limit.count; ++i) {
    auto at = static_cast<off_t>(place.next());
    ssize_t done = limit.write ? ::pwrite(fd, buffer, kBlock, at) : ::pread(fd, buffer, kBlock, at);
    if (done != static_cast<ssize_t>(kBlock)) return done < 0 ? errno : EIO;
  }
  return 0;
}

int in_flight(int fd, const IoLimit& limit, RandomBlock& place, char* buffers) {
  io_uring ring;
  int status = ::io_uring_queue_init(limit.depth, &ring,
                                     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  if (status != 0) return -status;
  uint64_t started = 0;
  auto start = [&](uint64_t slot) {
    io_uring_sqe* sqe = ::io_uring_get_sqe(&ring);
    char* buffer = buffers + slot * kBlock;
    if (limit.write) {
      ::io_uring_prep_write(sqe, fd, buffer, kBlock, place.next());
    } else {
      ::io_uring_prep_read(sqe, fd, buffer, kBlock, place.next());
    }
    ::io_uring_sqe_set_data64(sqe, slot);
    ++started;
  };
  while (started < limit.depth && started < limit.count)
    start(started);
  int error = 0;
  for (uint64_t finished = 0; finished < limit.count && error == 0;) {
    status = ::io_uring_submit_and_wait(&ring, 1);
    if (status < 0) error = -status;
    io_uring_cqe* cqe = nullptr;
    while (error == 0 && ::io_uring_peek_cqe(&ring, &cqe) == 0) {
      if (cqe->res != static_cast<int>(kBlock)) error = cqe->res < 0 ? -cqe->res : EIO;
      uint64_t slot = ::io_uring_cqe_get_data64(cqe);
      ::io_uring_cqe_seen(&ring, cqe);
      ++finished;
      if (started < limit.count) start(slot);
    }
  }
  ::io_uring_queue_exit(&ring);
  return error;
}

}  // namespace

double run_io_limit(const IoLimit& limit) {
  int fd = ::open(limit.file,
                  (limit.write ? O_RDWR : O_RDONLY) | (limit.direct ? O_DIRECT : 0) | O_CLOEXEC);
  if (fd < 0) return -errno;
  struct stat st {};
  if (::fstat(fd, &st) != 0) return -errno;
  off_t end = ::lseek(fd, 0, SEEK_END);
  if (end < static_cast<off_t>(kBlock)) return -EINVAL;
  Buffer buffers(static_cast<char*>(std::aligned_alloc(kBlock, kBlock * limit.depth)));
  RandomBlock place(static_cast<uint64_t>(end));
  auto begin = std::chrono::steady_clock::now();
  int error = limit.depth == 1 ? one_by_one(fd, limit, place, buffers.get())
                               : in_flight(fd, limit, place, buffers.get());
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  ::close(fd);
  return error != 0 ? -error : took.count();
}

}  // namespace calf::bench
