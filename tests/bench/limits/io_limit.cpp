#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>

#include "tests/bench/limits/limits.h"

namespace calf::bench {
namespace {

constexpr uint64_t kAlignment = 4096;

struct Freed {
  void operator()(void* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<char, Freed>;

// The files of a run, and where its next request goes.
class Requests {
 public:
  explicit Requests(const IoLimit& limit) : limit_(limit) {}
  ~Requests() {
    if (fd_ >= 0) ::close(fd_);
    if (base_ >= 0) ::close(base_);
  }
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

  // 0, or an errno.
  int open() {
    const bool write = limit_.work != IoLimit::Work::kRead;
    const int flags = (write ? O_RDWR | O_CREAT : O_RDONLY) | (limit_.direct ? O_DIRECT : 0);
    fd_ = ::open(limit_.file, flags | O_CLOEXEC, 0666);
    if (fd_ < 0) return errno;
    if (limit_.work != IoLimit::Work::kAllocate) return spread_over(fd_);
    if (limit_.base == nullptr) return 0;
    base_ = ::open(limit_.base, O_RDONLY | O_CLOEXEC);
    return base_ < 0 ? errno : spread_over(base_);
  }

  int fd() const { return fd_; }

  // Where the next request goes. Fills `buffer` if it is to hold something.
  uint64_t next(char* buffer, int* error) {
    if (limit_.work != IoLimit::Work::kAllocate) return places_(engine_) * limit_.bytes;
    if (base_ >= 0) {
      const auto from = static_cast<off_t>(places_(engine_) * limit_.bytes);
      const ssize_t done = ::pread(base_, buffer, limit_.bytes, from);
      if (done != static_cast<ssize_t>(limit_.bytes)) *error = done < 0 ? errno : EIO;
    }
    const uint64_t place = limit_.every * used_++;
    if (int failed = reserve(place + limit_.bytes); failed != 0) *error = failed;
    return place;
  }

 private:
  // Random places are anywhere in this file.
  int spread_over(int fd) {
    const off_t end = ::lseek(fd, 0, SEEK_END);
    if (end < 0) return errno;
    const uint64_t blocks = static_cast<uint64_t>(end) / limit_.bytes;
    if (blocks == 0) return EINVAL;
    places_ = std::uniform_int_distribution<uint64_t>(0, blocks - 1);
    return 0;
  }

  // Blocks for some writes to come: who does not know how long a file will be has to ask for them
  // again and again, and gets some that are new to the disk, too.
  int reserve(uint64_t end) {
    constexpr uint64_t kStep = uint64_t{16} << 20;
    if (end <= reserved_) return 0;
    const auto from = static_cast<off_t>(reserved_);
    reserved_ += std::max(kStep, limit_.every);
    return ::posix_fallocate(fd_, from, static_cast<off_t>(reserved_) - from);
  }

  const IoLimit& limit_;
  int fd_ = -1;
  int base_ = -1;
  uint64_t used_ = 0;
  uint64_t reserved_ = 0;
  std::mt19937_64 engine_{1};
  std::uniform_int_distribution<uint64_t> places_;
};

int one_by_one(const IoLimit& limit, Requests& requests, char* buffer) {
  int error = 0;
  for (uint64_t i = 0; i < limit.count && error == 0; ++i) {
    auto at = static_cast<off_t>(requests.next(buffer, &error));
    ssize_t done = limit.work == IoLimit::Work::kRead
                       ? ::pread(requests.fd(), buffer, limit.bytes, at)
                       : ::pwrite(requests.fd(), buffer, limit.bytes, at);
    if (done != static_cast<ssize_t>(limit.bytes)) error = done < 0 ? errno : EIO;
  }
  return error;
}

int in_flight(const IoLimit& limit, Requests& requests, char* buffers) {
  io_uring ring;
  int status = ::io_uring_queue_init(limit.depth, &ring,
                                     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  if (status != 0) return -status;
  const auto bytes = static_cast<unsigned>(limit.bytes);
  uint64_t started = 0;
  int error = 0;
  auto start = [&](uint64_t slot) {
    char* buffer = buffers + slot * limit.bytes;
    const uint64_t place = requests.next(buffer, &error);
    io_uring_sqe* sqe = ::io_uring_get_sqe(&ring);
    if (limit.work == IoLimit::Work::kRead) {
      ::io_uring_prep_read(sqe, requests.fd(), buffer, bytes, place);
    } else {
      ::io_uring_prep_write(sqe, requests.fd(), buffer, bytes, place);
    }
    ::io_uring_sqe_set_data64(sqe, slot);
    ++started;
  };
  while (started < limit.depth && started < limit.count)
    start(started);
  // Woken for each, it would submit one by one, and the disk would run dry meanwhile.
  const uint64_t batch = std::max<uint64_t>(limit.depth / 4, 1);
  for (uint64_t finished = 0; finished < limit.count && error == 0;) {
    const auto wanted = static_cast<unsigned>(std::min(batch, started - finished));
    status = ::io_uring_submit_and_wait(&ring, wanted);
    if (status < 0) error = -status;
    io_uring_cqe* cqe = nullptr;
    while (error == 0 && ::io_uring_peek_cqe(&ring, &cqe) == 0) {
      if (cqe->res != static_cast<int>(bytes)) error = cqe->res < 0 ? -cqe->res : EIO;
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
  Requests requests(limit);
  if (int error = requests.open(); error != 0) return -error;
  if (limit.bytes % kAlignment != 0 || limit.every % kAlignment != 0) return -EINVAL;
  Buffer buffers(static_cast<char*>(std::aligned_alloc(kAlignment, limit.bytes * limit.depth)));
  auto begin = std::chrono::steady_clock::now();
  int error = limit.depth == 1 ? one_by_one(limit, requests, buffers.get())
                               : in_flight(limit, requests, buffers.get());
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return error != 0 ? -error : took.count();
}

}  // namespace calf::bench
