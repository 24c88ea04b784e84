// How many transfers a thread that has nothing else to do waits for at a time.
//
// Woken for the first of many that a disk works at, it starts one request, sleeps, and is woken for
// the next: a system call and a notice to the disk for each, and the disk runs dry meanwhile. Woken
// for a quarter of them it starts as many at once, while the disk goes on with the rest.
//
// How long that may keep what has ended waiting is bounded (kLongest), and a disk that is not done
// with a quarter by then is not waited for again soon: what came is dealt with as it comes, for
// twice as many waits each time.
#pragma once

#include <algorithm>
#include <chrono>

namespace calf {

class BatchWait {
 public:
  static constexpr std::chrono::nanoseconds kLongest = std::chrono::milliseconds(1);
  static constexpr unsigned kMost = 64;
  static constexpr unsigned kMostSkipped = 1024;

  // What to wait for, kLongest at most, where it is more than 1. `at_disk`: transfers on their way.
  unsigned wanted(unsigned at_disk) {
    const unsigned quarter = std::min(at_disk / 4, kMost);
    if (quarter < 2) return 1;
    if (skip_ != 0) {
      --skip_;
      return 1;
    }
    return quarter;
  }
  // Whether what wanted() named, more than 1, had come in time.
  void waited(bool in_time) {
    skipped_ = in_time ? 0 : std::clamp(2 * skipped_, 1U, kMostSkipped);
    skip_ = skipped_;
  }

 private:
  unsigned skip_ = 0;     // waits until the next attempt
  unsigned skipped_ = 0;  // after the last one
};

}  // namespace calf
