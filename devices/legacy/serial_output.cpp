#include "devices/legacy/serial_output.h"

namespace calf::devices {

SerialOutput::SerialOutput(ByteChannel& channel, TimerFactory& timers, Clock& clock,
                           std::function<void()> on_room)
    : channel_(channel), clock_(clock), on_room_(std::move(on_room)) {
  timer_ = timers.make_timer([this] { on_timer(); });
  channel_.set_writable_callback([this] { on_writable(); });
}

bool SerialOutput::put(uint8_t byte) {
  MutexLock lock(mutex_);
  if (size() >= kCapacity) {
    ++dropped_;
    return false;
  }
  pending_.push_back(byte);
  if (blocked_) return true;
  if (byte == '\n' || size() >= kBatch) {
    send_pending();
  } else if (!timer_armed_) {
    timer_armed_ = true;
    timer_->arm(clock_.monotonic() + kMaxDelay);
  }
  return true;
}

bool SerialOutput::has_room() {
  MutexLock lock(mutex_);
  bool room = kCapacity - size() >= kBurst;
  if (!room) room_wanted_ = true;
  return room;
}

void SerialOutput::flush() {
  MutexLock lock(mutex_);
  send_pending();
}

uint64_t SerialOutput::dropped() {
  MutexLock lock(mutex_);
  return dropped_;
}

void SerialOutput::on_timer() {
  MutexLock lock(mutex_);
  timer_armed_ = false;
  if (!blocked_) send_pending();
}

void SerialOutput::on_writable() {
  bool tell = false;
  {
    MutexLock lock(mutex_);
    send_pending();
    tell = room_wanted_ && kCapacity - size() >= kBurst;
    if (tell) room_wanted_ = false;
  }
  if (tell && on_room_) on_room_();
}

void SerialOutput::send_pending() {
  if (size() != 0) head_ += channel_.send({pending_.data() + head_, size()});
  blocked_ = size() != 0;
  // Moving the rest to the front only when it is the smaller part keeps the cost linear.
  if (head_ > pending_.size() / 2) {
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(head_));
    head_ = 0;
  }
}

}  // namespace calf::devices
