// Time for devices; tests put their own hands on it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace calf::devices {

class Clock {
 public:
  virtual ~Clock() = default;
  // Monotonic, for timers and counters; starts anywhere.
  virtual std::chrono::nanoseconds monotonic() = 0;
  // Since 1970-01-01 UTC, for the RTC.
  virtual std::chrono::nanoseconds wall() = 0;
};

// The host's clocks.
class HostClock final : public Clock {
 public:
  std::chrono::nanoseconds monotonic() override {
    return std::chrono::steady_clock::now().time_since_epoch();
  }
  std::chrono::nanoseconds wall() override {
    return std::chrono::system_clock::now().time_since_epoch();
  }
};

// A one-shot alarm: calls back (on a thread of its owner, never inside arm(), with no lock of the
// owner held) when the monotonic clock reaches a time. A callback that was on its way when arm() or
// disarm() was called may still come. The destructor waits for a callback that is running.
class Timer {
 public:
  virtual ~Timer() = default;
  // Replaces an earlier deadline.
  virtual void arm(std::chrono::nanoseconds monotonic_deadline) = 0;
  virtual void disarm() = 0;
};

class TimerFactory {
 public:
  virtual ~TimerFactory() = default;
  virtual std::unique_ptr<Timer> make_timer(std::function<void()> on_expiry) = 0;
};

}  // namespace calf::devices
