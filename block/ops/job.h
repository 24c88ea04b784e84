// What a person may do to a running job, and what the job tells in between. Both sides run on the
// executor's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "block/base/result.h"

namespace calf::ops {

// A walk over extents may find all it needs in caches: after so many steps it yields, so that
// signals are heard.
constexpr unsigned kStepsBetweenYields = 64;

struct JobControl {
  // Set to make the job end soon with kCancelled, everything it touched consistent.
  bool stop = false;
  // Called as work gets done; may be null. `done` never exceeds `total`.
  std::function<void(uint64_t done, uint64_t total)> progress;
  // A line for the person in front that is no error; may be null.
  std::function<void(std::string_view line)> warning;

  Result<void> check() const {
    if (stop) return Error(ErrorKind::kCancelled, "Interrupted");
    return {};
  }
  void report(uint64_t done, uint64_t total) const {
    if (progress) progress(done, total);
  }
};

}  // namespace calf::ops
