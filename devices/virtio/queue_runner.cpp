#include "devices/virtio/queue_runner.h"

#include <unistd.h>

#include <cassert>

namespace calf::virtio {

Task<void> QueueRunner::run() {
  executor_->add_poller(*this);
  while (!stopping_) {
    walk();
    if (broken_) break;
    int64_t polled = co_await executor_->poll_in(kick_fd_);
    // A poll that fails would fail again at once; without it the queue is deaf.
    if (polled < 0) break_queue("its kicks cannot be waited for");
    take_kicks();
  }
  // The kicks of a broken queue wake nobody.
  if (!stopping_) co_await stopped_.wait();
  // Only the last finish() wakes us. (The usual `while` in place of this `if` crashes clang 14.)
  if (in_flight_ != 0) co_await drained_.wait();
  publish();
  executor_->remove_poller(*this);
}

void QueueRunner::stop() {
  stopping_ = true;
  stopped_.wake_all();
  kick_self();
}

void QueueRunner::take_kicks() {
  uint64_t kicks = 0;
  // Nothing to read only means that nothing is to be reset.
  [[maybe_unused]] ssize_t n = ::read(kick_fd_, &kicks, sizeof kicks);
  if (!stopping_) counters_.kicks += kicks;  // the last one is our own
}

void QueueRunner::kick_self() {
  uint64_t one = 1;
  // Fails only if the counter is full, and then the fd is readable anyway.
  [[maybe_unused]] ssize_t n = ::write(kick_fd_, &one, sizeof one);
}

void QueueRunner::start_looking() {
  looking_ = true;
  if (!broken_ && !stopping_) queue_.silence_kicks();
}

bool QueueRunner::stop_looking() {
  looking_ = false;
  return !broken_ && !stopping_ && queue_.allow_kicks() && walk();
}

bool QueueRunner::walk() {
  if (broken_ || full_ || stopping_) return false;
  more_ = false;
  bool taken = false;
  do {
    if (!looking_) queue_.suppress_kicks();
    for (;;) {
      if (taken_in_turn_ == kPart) {
        more_ = true;
        return true;
      }
      if (in_flight_ == queue_.size()) {
        full_ = true;  // finish() makes room
        return taken;
      }
      Result<std::optional<Chain>> popped = queue_.pop();
      if (!popped.ok()) {
        break_queue(popped.error().message());
        return true;
      }
      if (!popped->has_value()) break;
      ++in_flight_;
      ++taken_in_turn_;
      ++counters_.requests;
      taken = true;
      consumer_->take(*this, std::move(**popped));
      if (broken_) return true;
    }
  } while (!looking_ && queue_.allow_kicks());
  return taken;
}

bool QueueRunner::end_turn() {
  publish();
  const bool go_on = more_ && !broken_ && !stopping_;
  // What this turn took is submitted first.
  if (go_on && taken_in_turn_ == 0) walk();
  taken_in_turn_ = 0;
  return go_on;
}

void QueueRunner::break_queue(std::string_view why) {
  broken_ = true;
  notifier_->needs_reset(fmt::format("queue {}: {}", queue_.index(), why));
}

void QueueRunner::finish(uint16_t head, uint32_t written) {
  assert(in_flight_ > 0);
  --in_flight_;
  queue_.push(head, written);
  dirty_ = true;
  if (full_) {
    full_ = false;
    more_ = true;
  }
  if (stopping_ && in_flight_ == 0) drained_.wake_all();
}

void QueueRunner::fail(uint16_t head, std::string_view why) {
  finish(head, 0);
  if (!broken_) break_queue(why);
}

void QueueRunner::publish() {
  if (!dirty_) return;
  dirty_ = false;
  if (!queue_.publish()) return;
  ++counters_.interrupts;
  notifier_->used_buffers(queue_.index());
}

}  // namespace calf::virtio
