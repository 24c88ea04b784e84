// Deadline: bounds work whose length somebody else decides (a stranger's image). Whoever works asks
// it between the steps; nothing is interrupted from outside.
#pragma once

#include <cerrno>
#include <chrono>
#include <optional>

#include "block/base/result.h"

namespace calf {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  // Never over.
  Deadline() = default;
  static Deadline after(Clock::duration time) {
    Deadline deadline;
    deadline.end_ = Clock::now() + time;
    return deadline;
  }

  bool is_set() const { return end_.has_value(); }
  // An error (kCancelled, ETIMEDOUT) when the time is over. Before each step that may take long.
  Result<void> check() const {
    if (!end_ || Clock::now() < *end_) return {};
    return Error(ErrorKind::kCancelled, ETIMEDOUT, "Not finished in time");
  }
  // The same for short steps: only the first and then every 256th call looks at the clock.
  Result<void> check_often() {
    constexpr unsigned kStride = 256;
    if (!end_) return {};
    if (calls_ % kStride == 0) TRY_VOID(check());
    ++calls_;
    return {};
  }

 private:
  std::optional<Clock::time_point> end_;
  unsigned calls_ = 0;
};

}  // namespace calf
