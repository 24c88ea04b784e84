// Time in the hands of a test: advance() moves both clocks and runs the timers that come due, in
// order.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "devices/core/clock.h"

namespace calf::devices {

class FakeClock final : public Clock, public TimerFactory {
 public:
  // 2024-02-28 23:59:50 UTC.
  static constexpr std::chrono::seconds kStart{1709164790};

  std::chrono::nanoseconds monotonic() override { return now_; }
  std::chrono::nanoseconds wall() override { return kStart + now_ + wall_step_; }

  std::unique_ptr<Timer> make_timer(std::function<void()> on_expiry) override {
    return std::make_unique<FakeTimer>(*this, std::move(on_expiry));
  }

  void advance(std::chrono::nanoseconds by) {
    std::chrono::nanoseconds end = now_ + by;
    while (FakeTimer* next = next_due(end)) {
      now_ = std::max(now_, *next->deadline_);
      next->deadline_.reset();
      ++expiries_;
      next->on_expiry_();
    }
    now_ = end;
  }
  void step_wall(std::chrono::nanoseconds by) { wall_step_ += by; }
  // Timer callbacks so far: what a device costs an idle host.
  int expiries() const { return expiries_; }
  bool any_armed() const {
    return std::any_of(timers_.begin(), timers_.end(),
                       [](const FakeTimer* t) { return t->deadline_.has_value(); });
  }

 private:
  class FakeTimer final : public Timer {
   public:
    FakeTimer(FakeClock& clock, std::function<void()> on_expiry)
        : clock_(clock), on_expiry_(std::move(on_expiry)) {
      clock_.timers_.push_back(this);
    }
    ~FakeTimer() override { std::erase(clock_.timers_, this); }
    void arm(std::chrono::nanoseconds deadline) override { deadline_ = deadline; }
    void disarm() override { deadline_.reset(); }

    FakeClock& clock_;
    std::function<void()> on_expiry_;
    std::optional<std::chrono::nanoseconds> deadline_;
  };

  FakeTimer* next_due(std::chrono::nanoseconds end) {
    FakeTimer* best = nullptr;
    for (FakeTimer* timer : timers_) {
      if (!timer->deadline_ || *timer->deadline_ > end) continue;
      if (best == nullptr || *timer->deadline_ < *best->deadline_) best = timer;
    }
    return best;
  }

  std::vector<FakeTimer*> timers_;
  std::chrono::nanoseconds now_{std::chrono::seconds(1000)};
  std::chrono::nanoseconds wall_step_{-std::chrono::seconds(1000)};
  int expiries_ = 0;
};

}  // namespace calf::devices
