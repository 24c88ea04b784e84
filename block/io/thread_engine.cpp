// IoEngine for hosts that refuse io_uring: threads make the system calls. Polls and timeouts wait
// on one thread of their own in poll(), which a pipe-like eventfd interrupts when the set changes.

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "block/base/fd.h"
#include "block/io/io_engine.h"
#include "block/io/offload_pool.h"

namespace calf {
namespace {

constexpr unsigned kThreads = 8;

class ThreadEngine final : public IoEngine {
 public:
  ThreadEngine() : poll_wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), pool_(kThreads) {}
  ~ThreadEngine() override {
    if (poller_.joinable()) {
      {
        std::lock_guard lock(mutex_);
        stopping_ = true;
      }
      interrupt_poller();
      poller_.join();
    }
  }

  const char* name() const override { return "threads"; }
  void submit(IoOp& op) override;
  void cancel(IoOp& op) override;
  void wait(bool block, std::deque<std::coroutine_handle<>>& ready) override;
  bool has_finished() const override {
    std::lock_guard lock(mutex_);
    return woken_ || !done_.empty();
  }
  void wake() override;

 private:
  void complete(IoOp& op, int64_t result);
  void poll_loop();
  void interrupt_poller() {
    uint64_t one = 1;
    [[maybe_unused]] ssize_t n = ::write(poll_wake_.get(), &one, sizeof one);
  }

  mutable std::mutex mutex_;
  std::condition_variable finished_;
  std::deque<std::coroutine_handle<>> done_;
  bool woken_ = false;
  std::vector<IoOp*> waiting_;  // polls and timeouts
  bool stopping_ = false;
  Fd poll_wake_;
  std::thread poller_;
  // Last: its threads end before the members they use.
  OffloadPool pool_;
};

void ThreadEngine::complete(IoOp& op, int64_t result) {
  std::lock_guard lock(mutex_);
  op.result = result;
  done_.push_back(op.waiter);
  finished_.notify_one();
}

void ThreadEngine::submit(IoOp& op) {
  if (op.code == IoOp::Code::kPollIn || op.code == IoOp::Code::kTimeout) {
    {
      std::lock_guard lock(mutex_);
      waiting_.push_back(&op);
      if (!poller_.joinable()) poller_ = std::thread([this] { poll_loop(); });
    }
    interrupt_poller();
    return;
  }
  pool_.run([this, &op] { complete(op, perform(op)); });
}

void ThreadEngine::cancel(IoOp& op) {
  std::lock_guard lock(mutex_);
  auto it = std::find(waiting_.begin(), waiting_.end(), &op);
  if (it == waiting_.end()) return;
  waiting_.erase(it);
  op.result = -ECANCELED;
  done_.push_back(op.waiter);
  finished_.notify_one();
}

void ThreadEngine::wait(bool block, std::deque<std::coroutine_handle<>>& ready) {
  std::unique_lock lock(mutex_);
  if (block) finished_.wait(lock, [this] { return woken_ || !done_.empty(); });
  woken_ = false;
  ready.insert(ready.end(), done_.begin(), done_.end());
  done_.clear();
}

void ThreadEngine::wake() {
  std::lock_guard lock(mutex_);
  woken_ = true;
  finished_.notify_one();
}

void ThreadEngine::poll_loop() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    std::vector<pollfd> fds{{poll_wake_.get(), POLLIN, 0}};
    std::vector<IoOp*> polled;
    auto now = std::chrono::steady_clock::now();
    auto next = now + std::chrono::hours(1);
    for (IoOp* op : waiting_) {
      if (op->code == IoOp::Code::kPollIn) {
        fds.push_back({op->file.fd, POLLIN, 0});
        polled.push_back(op);
      } else {
        next = std::min(next, op->deadline);
      }
    }
    auto left = std::chrono::ceil<std::chrono::milliseconds>(next - now).count();
    lock.unlock();
    int n = ::poll(fds.data(), fds.size(), static_cast<int>(std::max<int64_t>(left, 0)));
    uint64_t value = 0;
    if (n > 0 && fds[0].revents != 0) {
      [[maybe_unused]] ssize_t r = ::read(poll_wake_.get(), &value, sizeof value);
    }
    lock.lock();
    now = std::chrono::steady_clock::now();
    // Operations may have been cancelled meanwhile: only those still in the list are answered.
    std::erase_if(waiting_, [&](IoOp* op) {
      if (op->code == IoOp::Code::kTimeout) {
        if (op->deadline > now) return false;
        op->result = 0;
      } else {
        auto it = std::find(polled.begin(), polled.end(), op);
        if (n <= 0 || it == polled.end()) return false;
        short events = fds[1 + static_cast<size_t>(it - polled.begin())].revents;
        if (events == 0) return false;
        op->result = events;
      }
      done_.push_back(op->waiter);
      finished_.notify_one();
      return true;
    });
  }
}

}  // namespace

std::unique_ptr<IoEngine> make_thread_engine() {
  return std::make_unique<ThreadEngine>();
}

}  // namespace calf
