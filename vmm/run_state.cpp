#include "vmm/run_state.h"

namespace calf::vmm {

void RunState::request(Request request) {
  {
    MutexLock lock(mutex_);
    bool stronger = request.kind == Request::Kind::kQuit;
    if (pending_ && !stronger) return;
    bool posted = pending_.has_value();
    pending_ = std::move(request);
    if (posted) return;
  }
  vcpus_.order_park();
  loop_.post([this] { handle_pending(); });
}

void RunState::request_reset(devices::ResetReason reason) {
  Request reset{Request::Kind::kReset};
  reset.reset_reason = reason;
  request(std::move(reset));
}

void RunState::request_power_off() {
  request({Request::Kind::kPowerOff});
}

void RunState::request_debug_exit(uint32_t value) {
  Request exit{Request::Kind::kDebugExit};
  exit.value = value;
  request(std::move(exit));
}

void RunState::guest_panicked(devices::PanicKind kind) {
  // A guest that goes on in its crash kernel ends in its own way.
  if (kind == devices::PanicKind::kPanicked) request({Request::Kind::kPanic});
}

void RunState::fail(std::string text) {
  Request failure{Request::Kind::kFailure};
  failure.text = std::move(text);
  request(std::move(failure));
}

bool RunState::pending() const {
  MutexLock lock(mutex_);
  return pending_.has_value();
}

void RunState::handle_pending() {
  // Once more: resume() may have let them run since the request was made. It also runs on this
  // thread, so nobody does now.
  vcpus_.order_park();
  vcpus_.wait_parked();
  std::optional<Request> request;
  {
    MutexLock lock(mutex_);
    request.swap(pending_);
  }
  if (request) handler_(*request);
}

}  // namespace calf::vmm
