// Looking instead of sleeping: an executor that has nothing to do watches, for a short while, what
// its pollers can see in memory (a virtqueue's index), before it asks the kernel to wake it.
//
//     nothing to do ── window > 0 ──> start_looking()  look() look() …  stop_looking() ──> sleep
//                                        doorbells silent                  doorbells again
//
// A request that comes meanwhile costs neither the guest a doorbell nor the host a context switch.
// The window adapts (IdleWindow): it grows while sleeps turn out short, so that looking would have
// met what came, and shrinks to nothing when they turn out long: an idle machine's thread sleeps.
// So does one that others would like to have the processor of.
#pragma once

#include <algorithm>
#include <chrono>

namespace calf {

// On the executor's thread. None of these suspends.
class IdlePoller {
 public:
  virtual ~IdlePoller() = default;
  virtual void start_looking() = 0;
  // Starts whatever there is to do; true if there was anything.
  virtual bool look() = 0;
  // True if something had come that no doorbell will tell of; it was started.
  virtual bool stop_looking() = 0;
  // All coroutines that were ready have run, and what they queued is not submitted yet: what ended
  // can be told of together. True if there is more to do than that, after the submission.
  virtual bool end_turn() = 0;
};

class IdleWindow {
 public:
  using Duration = std::chrono::nanoseconds;
  // Longer than a guest takes from an answer to its next request where KVM emulates its kernel (30
  // to 100 us; 5 us with hardware virtualisation), shorter than a time slice by far.
  static constexpr Duration kLongest = std::chrono::microseconds(128);
  static constexpr Duration kShortest = std::chrono::microseconds(4);

  Duration now() const { return window_; }
  // Looking took `looked`. Much longer than it was to take: somebody else had the processor.
  void looked(Duration looked) {
    if (looked > window_ + 2 * kLongest) window_ = Duration::zero();
  }
  // The executor slept for `slept` after it had looked in vain.
  void slept(Duration slept) {
    if (slept <= kLongest) {
      window_ = std::clamp(window_ * 2, kShortest, kLongest);
    } else {
      window_ = window_ / 2 < kShortest ? Duration::zero() : window_ / 2;
    }
  }

 private:
  Duration window_ = Duration::zero();
};

}  // namespace calf
