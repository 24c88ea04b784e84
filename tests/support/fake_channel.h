// A ByteChannel whose other end is the test.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "devices/core/byte_channel.h"

namespace calf::devices {

class FakeChannel final : public ByteChannel {
 public:
  size_t send(std::span<const uint8_t> bytes) override {
    ++sends_;
    size_t taken = std::min(room_, bytes.size());
    room_ -= taken;
    sent_.append(reinterpret_cast<const char*>(bytes.data()), taken);
    return taken;
  }
  void set_receiver(Receiver receiver) override { receiver_ = std::move(receiver); }
  void receiver_ready() override {
    ++ready_calls_;
    offer({});
  }
  void set_writable_callback(std::function<void()> callback) override {
    writable_ = std::move(callback);
  }

  // What arrived here so far.
  const std::string& sent() const { return sent_; }
  int sends() const { return sends_; }
  int ready_calls() const { return ready_calls_; }
  // Takes no more than this many bytes from now on. Unlimited at first.
  void set_room(size_t bytes) { room_ = bytes; }
  // The reader woke up: room for so many bytes, and the device is told.
  void make_room(size_t bytes) {
    room_ = bytes;
    writable_();
  }
  // Bytes for the device. What it does not take is kept until it is ready.
  void offer(std::string_view bytes) {
    held_ += bytes;
    if (held_.empty() || !receiver_) return;
    size_t taken = receiver_({reinterpret_cast<const uint8_t*>(held_.data()), held_.size()});
    held_.erase(0, taken);
  }
  size_t held() const { return held_.size(); }

 private:
  std::string sent_;
  std::string held_;
  size_t room_ = SIZE_MAX;
  int sends_ = 0;
  int ready_calls_ = 0;
  Receiver receiver_;
  std::function<void()> writable_;
};

}  // namespace calf::devices
