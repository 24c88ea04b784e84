// IoEngine on io_uring. One ring, one submitter; wake-ups from other threads come through an
// eventfd that the ring polls.

#include <fcntl.h>
#include <liburing.h>
#include <linux/time_types.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "block/base/fd.h"
#include "block/io/batch_wait.h"
#include "block/io/io_engine.h"

namespace calf {
namespace {

constexpr unsigned kEntries = 256;
// More images than a chain or a guest's disk comes to; those beyond it cost a little more.
constexpr unsigned kSlots = 64;

class UringEngine final : public IoEngine {
 public:
  UringEngine() = default;
  ~UringEngine() override {
    if (open_) io_uring_queue_exit(&ring_);
  }

  Result<void> open();

  const char* name() const override { return "io_uring"; }
  void submit(IoOp& op) override;
  void cancel(IoOp& op) override;
  void wait(bool block, std::deque<std::coroutine_handle<>>& ready) override;
  bool has_finished() const override { return io_uring_cq_ready(&ring_) != 0 || has_deferred(); }
  void wake() override;
  int keep_file(int fd) override;
  void drop_file(int slot) override;
  uint64_t entries() const override { return entries_.load(std::memory_order_relaxed); }

 private:
  io_uring_sqe* next_sqe();
  bool make_slots();
  // Submits what is queued; with `block`, waits for a completion.
  void enter(bool block);
  int try_enter(bool block);
  int wait_for_batch(unsigned wanted);
  // Has something ended that the kernel tells of when it is entered?
  bool has_deferred() const {
    return deferring_ && (IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN) != 0;
  }
  void arm_wakeup();
  void reap(std::deque<std::coroutine_handle<>>& ready);

  io_uring ring_{};
  bool open_ = false;
  // See open().
  bool deferring_ = false;
  bool enabled_ = true;
  // Can a wait be told for how long?
  bool timed_waits_ = false;
  BatchWait batch_;
  unsigned at_disk_ = 0;
  Fd wake_fd_;
  bool wake_armed_ = false;
  std::atomic<bool> wake_sent_ = false;
  std::atomic<uint64_t> entries_ = 0;
  // Which slots hold a file; none before the first is kept, or where the kernel has no table that
  // is filled later (Linux 5.19).
  std::vector<bool> slots_;
  bool has_slots_ = true;
  // user_data of completions that belong to no IoOp.
  static constexpr uint64_t kWakeTag = 1;
  static constexpr uint64_t kIgnoreTag = 2;
};

std::string why_refused(int error) {
  if (error == EPERM || error == ENOSYS) {
    int disabled = 0;
    if (FILE* file = std::fopen("/proc/sys/kernel/io_uring_disabled", "re")) {
      if (std::fscanf(file, "%d", &disabled) != 1) disabled = 0;
      std::fclose(file);
    }
    if (disabled != 0) {
      return fmt::format(
          "io_uring is switched off on this host: sysctl kernel.io_uring_disabled is {} (0 allows "
          "it)",
          disabled);
    }
    if (error == ENOSYS) return "this kernel has no io_uring (Linux 5.11 or newer is needed)";
    return "io_uring is refused here, most likely by a seccomp filter (container runtimes have "
           "one: allow "
           "io_uring_setup, io_uring_enter and io_uring_register)";
  }
  if (error == ENOMEM) return "io_uring could not lock memory (raise ulimit -l)";
  return "io_uring could not be set up: " + Error::from_errno(error).message();
}

Result<void> UringEngine::open() {
  // What has ended is dealt with when this ring's thread enters the kernel for it, not by an
  // interrupt of whatever that thread does (Linux 6.1). The thread is the one that enables the
  // ring, which is another than this one for a guest's disk.
  constexpr unsigned kPlain = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  constexpr unsigned kDeferring = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                  IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED;
  io_uring_params params{};
  params.cq_entries = 4 * kEntries;
  params.flags = kPlain | kDeferring;
  int r = io_uring_queue_init_params(kEntries, &ring_, &params);
  deferring_ = r == 0;
  enabled_ = !deferring_;
  if (r == -EINVAL) {
    params = {};
    params.cq_entries = 4 * kEntries;
    params.flags = kPlain;
    r = io_uring_queue_init_params(kEntries, &ring_, &params);
  }
  if (r < 0) return Error(ErrorKind::kUnsupported, -r, why_refused(-r));
  open_ = true;
  if ((params.features & IORING_FEAT_NODROP) == 0 ||
      (params.features & IORING_FEAT_SUBMIT_STABLE) == 0) {
    return make_error(ErrorKind::kUnsupported, "io_uring of this kernel is too old");
  }
  timed_waits_ = (params.features & IORING_FEAT_EXT_ARG) != 0;
  wake_fd_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_fd_.valid()) return Error::from_errno(errno, "eventfd");
  return {};
}

io_uring_sqe* UringEngine::next_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    enter(false);
    sqe = io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void UringEngine::submit(IoOp& op) {
  io_uring_sqe* sqe = next_sqe();
  switch (op.code) {
    case IoOp::Code::kReadv:
      io_uring_prep_readv(sqe, op.file.fd, op.iov, op.iov_count, op.offset);
      break;
    case IoOp::Code::kWritev:
      io_uring_prep_writev2(sqe, op.file.fd, op.iov, op.iov_count, op.offset, op.flags);
      break;
    case IoOp::Code::kFdatasync:
      io_uring_prep_fsync(sqe, op.file.fd, IORING_FSYNC_DATASYNC);
      break;
    case IoOp::Code::kFallocate:
      io_uring_prep_fallocate(sqe, op.file.fd, op.flags, static_cast<off_t>(op.offset),
                              static_cast<off_t>(op.length));
      break;
    case IoOp::Code::kOpen:
      io_uring_prep_openat(sqe, AT_FDCWD, op.path, op.flags, static_cast<mode_t>(op.length));
      break;
    case IoOp::Code::kPollIn:
      io_uring_prep_poll_add(sqe, op.file.fd, POLLIN);
      break;
    case IoOp::Code::kTimeout: {
      // The kernel reads the time at submission, so it may stand in the frame of the operation.
      auto since_epoch = op.deadline.time_since_epoch();
      auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_epoch);
      auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(since_epoch - seconds);
      op.timespec = {seconds.count(), nanos.count()};
      static_assert(sizeof(op.timespec) == sizeof(__kernel_timespec));
      io_uring_prep_timeout(sqe, reinterpret_cast<__kernel_timespec*>(&op.timespec), 0,
                            IORING_TIMEOUT_ABS);
      break;
    }
  }
  if (op.file.slot >= 0) {
    sqe->fd = op.file.slot;
    sqe->flags |= IOSQE_FIXED_FILE;
  }
  if (op.aside) sqe->flags |= IOSQE_ASYNC;
  if (op.at_disk) ++at_disk_;
  io_uring_sqe_set_data(sqe, &op);
}

bool UringEngine::make_slots() {
  if (!has_slots_ || !slots_.empty()) return has_slots_;
  has_slots_ = io_uring_register_files_sparse(&ring_, kSlots) == 0;
  if (has_slots_) slots_.resize(kSlots);
  return has_slots_;
}

int UringEngine::keep_file(int fd) {
  if (!make_slots()) return -1;
  auto free = std::find(slots_.begin(), slots_.end(), false);
  if (free == slots_.end()) return -1;
  const auto slot = static_cast<unsigned>(free - slots_.begin());
  if (io_uring_register_files_update(&ring_, slot, &fd, 1) != 1) return -1;
  *free = true;
  return static_cast<int>(slot);
}

void UringEngine::drop_file(int slot) {
  int none = -1;
  const auto index = static_cast<unsigned>(slot);
  // Refused only to another thread than the ring's: the file stays until the ring ends, so its slot
  // stays taken.
  if (io_uring_register_files_update(&ring_, index, &none, 1) == 1) slots_[index] = false;
}

void UringEngine::cancel(IoOp& op) {
  io_uring_sqe* sqe = next_sqe();
  if (op.code == IoOp::Code::kTimeout) {
    io_uring_prep_timeout_remove(sqe, reinterpret_cast<uint64_t>(&op), 0);
  } else {
    io_uring_prep_cancel(sqe, &op, 0);
  }
  io_uring_sqe_set_data64(sqe, kIgnoreTag);
}

void UringEngine::arm_wakeup() {
  if (wake_armed_) return;
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_poll_add(sqe, wake_fd_.get(), POLLIN);
  io_uring_sqe_set_data64(sqe, kWakeTag);
  wake_armed_ = true;
}

int UringEngine::try_enter(bool block) {
  if (!enabled_) {
    // liburing 2.3 has a function for it, which its shared library does not export.
    const auto fd = static_cast<unsigned>(ring_.ring_fd);
    const int r = io_uring_register(fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    if (r < 0) return r;
    enabled_ = true;
  }
  if (block) {
    const unsigned wanted = timed_waits_ ? batch_.wanted(at_disk_) : 1;
    return wanted > 1 ? wait_for_batch(wanted) : io_uring_submit_and_wait(&ring_, 1);
  }
  return has_deferred() ? io_uring_submit_and_get_events(&ring_) : io_uring_submit(&ring_);
}

int UringEngine::wait_for_batch(unsigned wanted) {
  __kernel_timespec longest{0, BatchWait::kLongest.count()};
  io_uring_cqe* first = nullptr;
  const int r = io_uring_submit_and_wait_timeout(&ring_, &first, wanted, &longest, nullptr);
  const unsigned come = io_uring_cq_ready(&ring_);
  if (r >= 0 || r == -ETIME) batch_.waited(come >= wanted);
  return r == -ETIME && come == 0 ? io_uring_submit_and_wait(&ring_, 1) : r;
}

void UringEngine::enter(bool block) {
  // Only this thread writes.
  entries_.store(entries_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  const int r = try_enter(block);
  // EINTR: a signal; EAGAIN, EBUSY: the kernel wants completions reaped first; ETIME: less than a
  // batch has come. The loop comes back.
  if (r >= 0 || r == -EINTR || r == -EAGAIN || r == -EBUSY || r == -ETIME) return;
  std::fprintf(stderr, "io_uring_enter failed: %s\n", Error::from_errno(-r).message().c_str());
  std::abort();
}

void UringEngine::wait(bool block, std::deque<std::coroutine_handle<>>& ready) {
  arm_wakeup();
  enter(block);
  reap(ready);
}

void UringEngine::reap(std::deque<std::coroutine_handle<>>& ready) {
  unsigned head = 0;
  unsigned count = 0;
  io_uring_cqe* cqe = nullptr;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    ++count;
    uint64_t tag = io_uring_cqe_get_data64(cqe);
    if (tag == kWakeTag) {
      uint64_t value = 0;
      [[maybe_unused]] ssize_t n = ::read(wake_fd_.get(), &value, sizeof value);
      wake_armed_ = false;
      wake_sent_.store(false);
    } else if (tag != kIgnoreTag) {
      IoOp* op = reinterpret_cast<IoOp*>(tag);
      op->result = cqe->res;
      if (op->at_disk) --at_disk_;
      // A timeout that expired is a success.
      if (op->code == IoOp::Code::kTimeout && cqe->res == -ETIME) op->result = 0;
      ready.push_back(op->waiter);
    }
  }
  io_uring_cq_advance(&ring_, count);
}

void UringEngine::wake() {
  if (wake_sent_.exchange(true)) return;
  uint64_t one = 1;
  [[maybe_unused]] ssize_t n = ::write(wake_fd_.get(), &one, sizeof one);
}

}  // namespace

Result<std::unique_ptr<IoEngine>> make_uring_engine() {
  auto engine = std::make_unique<UringEngine>();
  TRY_VOID(engine->open());
  return std::unique_ptr<IoEngine>(std::move(engine));
}

}  // namespace calf
