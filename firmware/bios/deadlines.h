// Deadlines: when calls that wait for time are over.
//
// A call that waits is asked again and again; its interrupt frame's place on the stack tells it
// from others (an interrupt handler may wait while the program that it interrupted does). A guest
// that abandons waits can fill the table; the oldest entry then makes room, and that wait ends
// early.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "devices/core/clock.h"
#include "firmware/bios/call.h"

namespace calf::firmware {

class Deadlines {
 public:
  explicit Deadlines(devices::Clock& clock) : clock_(clock) {}

  void reset() { waits_.clear(); }

  // Time left of the wait of `length` that the call started when it was not yet repeated; zero or
  // less: it is over, and forgotten.
  std::chrono::nanoseconds left(const Call& call, std::chrono::nanoseconds length) {
    auto now = clock_.monotonic();
    auto found = std::find_if(waits_.begin(), waits_.end(),
                              [&](const Wait& w) { return w.frame == call.frame(); });
    if (found != waits_.end() && !call.repeated) {
      waits_.erase(found);
      found = waits_.end();
    }
    if (found == waits_.end()) {
      if (call.repeated || length <= length.zero()) return {};
      if (waits_.size() == kMaxWaits) waits_.erase(waits_.begin());
      waits_.push_back({call.frame(), now + length});
      return length;
    }
    auto rest = found->end - now;
    if (rest <= rest.zero()) waits_.erase(found);
    return rest;
  }
  // The call ends for another reason than time.
  void forget(const Call& call) {
    std::erase_if(waits_, [&](const Wait& w) { return w.frame == call.frame(); });
  }

  // Timer interrupts come every 55 ms; what is shorter is waited for without a halt.
  static constexpr std::chrono::milliseconds kTick{55};
  static Flow flow_for(std::chrono::nanoseconds rest) {
    return rest > kTick ? Flow::kWait : Flow::kSpin;
  }

 private:
  struct Wait {
    uint64_t frame;
    std::chrono::nanoseconds end;
  };
  static constexpr size_t kMaxWaits = 16;

  devices::Clock& clock_;
  std::vector<Wait> waits_;
};

}  // namespace calf::firmware
