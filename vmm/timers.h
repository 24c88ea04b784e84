// LoopTimers: the devices' alarms, all behind one timerfd in the control thread's event loop.
//
//     arm() on any thread -> earliest deadline of all -> timerfd -> loop -> callbacks
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <memory>

#include "block/base/fd.h"
#include "block/base/mutex.h"
#include "block/base/result.h"
#include "devices/core/clock.h"
#include "vmm/event_loop.h"

namespace calf::vmm {

// Deadlines are on CLOCK_MONOTONIC, which is HostClock's. Timers are made and destroyed on the
// loop's thread, arm() and disarm() may be called on any. A timer that is disarmed from another
// thread while it expires may still call back once.
class LoopTimers final : public devices::TimerFactory {
 public:
  static Result<std::unique_ptr<LoopTimers>> create(EventLoop& loop);
  // After all its timers.
  ~LoopTimers() override;

  std::unique_ptr<devices::Timer> make_timer(std::function<void()> on_expiry) override;

 private:
  class LoopTimer;
  using Deadline = std::chrono::nanoseconds;
  static constexpr Deadline kNever = Deadline::max();

  explicit LoopTimers(EventLoop& loop) : loop_(loop) {}
  void set_deadline(LoopTimer& timer, Deadline deadline);
  void program() CALF_REQUIRES(mutex_);
  void expire();

  EventLoop& loop_;
  Fd timer_fd_;
  Mutex mutex_;
  std::list<LoopTimer*> timers_ CALF_GUARDED_BY(mutex_);
  Deadline programmed_ CALF_GUARDED_BY(mutex_) = kNever;
};

}  // namespace calf::vmm
