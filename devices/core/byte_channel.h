// Where a serial port's bytes go to and come from: a terminal, a file, a socket, nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

namespace calf::devices {

// A device may call in while it holds its own lock, and takes that lock in its callbacks: a channel
// calls back with no lock of its own held, and never from inside send().
class ByteChannel {
 public:
  virtual ~ByteChannel() = default;
  // Takes what it can without waiting; returns how many bytes it took. Called from vCPU threads.
  virtual size_t send(std::span<const uint8_t> bytes) = 0;
  // The receiver is called with what arrives, on the control thread; it returns how many bytes it
  // took. The channel keeps the rest and offers it again after receiver_ready(). Set once, before
  // the guest starts.
  using Receiver = std::function<size_t(std::span<const uint8_t>)>;
  virtual void set_receiver(Receiver receiver) = 0;
  // The receiver has room again. Any thread.
  virtual void receiver_ready() = 0;
  // Called (control thread) when send() may take more after it took less than everything. Set once.
  virtual void set_writable_callback(std::function<void()> callback) = 0;
};

}  // namespace calf::devices
