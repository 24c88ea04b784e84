// IoEngine: what an Executor needs from below. Two exist: io_uring (uring_engine) and threads
// (thread_engine).
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <memory>

#include "block/base/result.h"

namespace calf {

// An open file as a request names it: its descriptor, and the slot where the engine keeps it
// (IoEngine::keep_file()), or -1. Without a slot a descriptor is enough.
struct IoFile {
  IoFile(int descriptor, int kept_in = -1) : fd(descriptor), slot(kept_in) {}
  int fd;
  int slot;
};

// One request on its way. Lives in the awaiting coroutine's frame from submit() until its waiter is
// resumed.
struct IoOp {
  enum class Code : uint8_t { kReadv, kWritev, kFdatasync, kFallocate, kOpen, kPollIn, kTimeout };

  Code code = Code::kReadv;
  IoFile file = -1;
  const iovec* iov = nullptr;
  unsigned iov_count = 0;
  const char* path = nullptr;
  int flags = 0;  // RWF_* of a write, mode of fallocate, O_* of open
  uint64_t offset = 0;
  uint64_t length = 0;  // of fallocate; permissions of a file that open makes
  // Much is copied: not on the submitting thread, if the engine has a choice.
  bool aside = false;
  // Nothing is copied: the disk moves the bytes, which takes it a while.
  bool at_disk = false;
  std::chrono::steady_clock::time_point deadline{};
  // Room for an engine's form of `deadline`.
  struct {
    int64_t seconds;
    long long nanoseconds;
  } timespec{};

  // The answer: what the system call returns, or -errno.
  int64_t result = 0;
  std::coroutine_handle<> waiter{};
};

// Does it here and now: what the system call returns, or -errno. No polls, no timeouts.
int64_t perform(const IoOp& op);

class IoEngine {
 public:
  virtual ~IoEngine() = default;
  virtual const char* name() const = 0;

  // Queues `op`; it is on its way after the next wait() at the latest.
  virtual void submit(IoOp& op) = 0;
  // Ends a kPollIn or kTimeout early with -ECANCELED; nothing happens if it has ended.
  virtual void cancel(IoOp& op) = 0;
  // Submits what is queued, puts the waiters of finished operations into `ready`. With `block`,
  // waits until there is at least one, or wake() was called.
  virtual void wait(bool block, std::deque<std::coroutine_handle<>>& ready) = 0;
  // Is there a finished operation that wait() would find without blocking? Cheap: no system call.
  virtual bool has_finished() const = 0;
  // Any thread: makes a present or the next blocking wait() return.
  virtual void wake() = 0;
  // Keeps the open file `fd` at hand, so that requests that name its slot need not look it up. -1:
  // not here, or all slots are taken. What is kept stays open, whatever becomes of `fd`, until
  // drop_file() or the engine's end.
  virtual int keep_file(int /*fd*/) { return -1; }
  virtual void drop_file(int /*slot*/) {}
  // How often the kernel was entered to submit or to wait; 0 where no engine does. Any thread.
  virtual uint64_t entries() const { return 0; }
};

// Fails with a text that names the sysctl or filter where the host refuses io_uring.
Result<std::unique_ptr<IoEngine>> make_uring_engine();
std::unique_ptr<IoEngine> make_thread_engine();

}  // namespace calf
