#include "vmm/timers.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace calf::vmm {

class LoopTimers::LoopTimer final : public devices::Timer {
 public:
  LoopTimer(LoopTimers& owner, std::function<void()> on_expiry)
      : callback(std::move(on_expiry)), owner_(owner) {
    MutexLock lock(owner_.mutex_);
    owner_.timers_.push_back(this);
  }
  ~LoopTimer() override {
    MutexLock lock(owner_.mutex_);
    owner_.timers_.remove(this);
  }
  void arm(std::chrono::nanoseconds when) override { owner_.set_deadline(*this, when); }
  void disarm() override { owner_.set_deadline(*this, kNever); }

  Deadline deadline = kNever;  // guarded by the owner's mutex
  const std::function<void()> callback;

 private:
  LoopTimers& owner_;
};

Result<std::unique_ptr<LoopTimers>> LoopTimers::create(EventLoop& loop) {
  std::unique_ptr<LoopTimers> timers(new LoopTimers(loop));
  timers->timer_fd_ = Fd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timers->timer_fd_.valid()) return Error::from_errno(errno, "Could not create a timer");
  LoopTimers* self = timers.get();
  TRY_VOID(loop.add(timers->timer_fd_.get(), EPOLLIN, [self](uint32_t) { self->expire(); }));
  return timers;
}

LoopTimers::~LoopTimers() {
  if (timer_fd_.valid()) loop_.remove(timer_fd_.get());
}

std::unique_ptr<devices::Timer> LoopTimers::make_timer(std::function<void()> on_expiry) {
  return std::make_unique<LoopTimer>(*this, std::move(on_expiry));
}

void LoopTimers::set_deadline(LoopTimer& timer, Deadline deadline) {
  MutexLock lock(mutex_);
  timer.deadline = deadline;
  // A later deadline than the programmed one needs no system call: the loop finds nothing due then
  // and programs anew.
  if (deadline < programmed_) program();
}

void LoopTimers::program() {
  programmed_ = kNever;
  for (const LoopTimer* timer : timers_)
    programmed_ = std::min(programmed_, timer->deadline);
  itimerspec spec{};
  if (programmed_ != kNever) {
    // Zero would disarm; the past expires at once.
    auto when = std::max(programmed_, Deadline(1));
    auto seconds = std::chrono::duration_cast<std::chrono::seconds>(when);
    spec.it_value.tv_sec = seconds.count();
    spec.it_value.tv_nsec = (when - seconds).count();
  }
  // Fails for no value that stands here.
  ::timerfd_settime(timer_fd_.get(), TFD_TIMER_ABSTIME, &spec, nullptr);
}

void LoopTimers::expire() {
  uint64_t count;
  [[maybe_unused]] ssize_t n = ::read(timer_fd_.get(), &count, sizeof count);
  Deadline now = std::chrono::steady_clock::now().time_since_epoch();
  std::vector<LoopTimer*> due;
  {
    MutexLock lock(mutex_);
    for (LoopTimer* timer : timers_) {
      if (timer->deadline > now) continue;
      timer->deadline = kNever;
      due.push_back(timer);
    }
    program();
  }
  // Without the lock: callbacks arm timers again. Timers die on this thread only, and none does in
  // a callback.
  for (LoopTimer* timer : due)
    timer->callback();
}

}  // namespace calf::vmm
