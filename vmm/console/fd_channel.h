// ByteChannel over file descriptors: terminal, file, pty, socket.
//
//     send() [vCPU threads] --write--> out fd, or the backlog when it is full --EPOLLOUT--> out fd
//     receiver [control thread] <--EPOLLIN-- in fd; what it does not take waits here, unread
//
// Descriptors are left in blocking mode, since they may be shared with the shell that started us:
// before each write the descriptor is asked whether it has room, and no write is larger than what
// such room guarantees.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "block/base/fd.h"
#include "block/base/mutex.h"
#include "block/base/result.h"
#include "devices/core/byte_channel.h"
#include "vmm/event_loop.h"

namespace calf::vmm {

class FdChannel : public devices::ByteChannel {
 public:
  // What happens to output for which nobody makes room: kWait keeps the guest's bytes in the UART
  // (it sees a slow line), kDrop loses them, for channels that may have no reader at all.
  enum class WhenFull : uint8_t { kWait, kDrop };

  explicit FdChannel(EventLoop& loop, WhenFull when_full = WhenFull::kWait)
      : loop_(loop), when_full_(when_full) {}
  // Control thread, after the guest's threads are gone.
  ~FdChannel() override;

  // Starts using descriptors of its own; either may be invalid (no input, output to nowhere).
  // Control thread.
  Result<void> attach(Fd in, Fd out);
  // Stops using and closes them. Output is lost until the next attach(). Control thread.
  void detach();
  // Called on the control thread when the other side is gone or the input has ended.
  void set_closed_callback(std::function<void()> callback) { on_closed_ = std::move(callback); }

  size_t send(std::span<const uint8_t> bytes) override;
  void set_receiver(Receiver receiver) override { receiver_ = std::move(receiver); }
  void receiver_ready() override;
  void set_writable_callback(std::function<void()> callback) override {
    on_writable_ = std::move(callback);
  }

 protected:
  // Input on its way to the guest; a derived channel may filter it. Appends what is to be
  // delivered.
  virtual void filter_input(std::span<const uint8_t> bytes, std::vector<uint8_t>& deliver) {
    deliver.insert(deliver.end(), bytes.begin(), bytes.end());
  }
  EventLoop& loop() { return loop_; }

 private:
  void on_input();
  void deliver();
  void on_output_room();
  void want_output_room();
  size_t write_some(std::span<const uint8_t> bytes) CALF_REQUIRES(mutex_);

  EventLoop& loop_;
  WhenFull when_full_;
  Receiver receiver_;
  std::function<void()> on_writable_;
  std::function<void()> on_closed_;

  // Control thread only.
  Fd in_;
  bool in_polled_ =
      false;  // the loop watches it; a regular file cannot be watched and is read at once
  bool in_paused_ = false;  // the receiver is full
  bool out_polled_ = false;
  std::vector<uint8_t> undelivered_;

  Mutex mutex_;
  Fd out_ CALF_GUARDED_BY(mutex_);
  std::vector<uint8_t> backlog_ CALF_GUARDED_BY(mutex_);
  bool waiting_for_room_ CALF_GUARDED_BY(mutex_) = false;

  // Posted work may run after the channel is gone; it looks here first.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace calf::vmm
