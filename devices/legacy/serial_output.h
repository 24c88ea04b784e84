// SerialOutput: what a byte-wise output port (UART, debug port) puts between the guest and a
// ByteChannel.
//
//   vCPU: put(byte) ──► buffer (bounded) ──► ByteChannel::send()   at a newline, at 64 bytes,
//                                                                  or 2 ms after the first byte
//
// A channel that takes nothing (a terminal that is stopped, a full socket) fills the buffer and
// never blocks a vCPU; the chip shows "no room" to the guest. What is put in although there is no
// room is counted, not lost silently.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "block/base/mutex.h"
#include "devices/core/byte_channel.h"
#include "devices/core/clock.h"

namespace calf::devices {

class SerialOutput {
 public:
  static constexpr size_t kCapacity = 64 * 1024;
  // has_room() promises this many bytes: the depth of a 16550's transmitter FIFO.
  static constexpr size_t kBurst = 16;
  static constexpr size_t kBatch = 64;
  static constexpr std::chrono::milliseconds kMaxDelay{2};

  // All outlive this object. `on_room` (may be empty) is called on the channel's thread, with no
  // lock held, when has_room() became true again.
  SerialOutput(ByteChannel& channel, TimerFactory& timers, Clock& clock,
               std::function<void()> on_room);

  // False if the buffer is full: the byte is dropped and counted.
  bool put(uint8_t byte);
  bool has_room();
  // Hands over what there is. For the end of the machine: the batching delay is not waited for.
  void flush();
  uint64_t dropped();

 private:
  void on_timer();
  void on_writable();
  void send_pending() CALF_REQUIRES(mutex_);
  size_t size() const CALF_REQUIRES(mutex_) { return pending_.size() - head_; }

  ByteChannel& channel_;
  Clock& clock_;
  std::function<void()> on_room_;
  Mutex mutex_;
  std::vector<uint8_t> pending_ CALF_GUARDED_BY(mutex_);  // bytes from head_ on are to be sent
  size_t head_ CALF_GUARDED_BY(mutex_) = 0;
  bool blocked_ CALF_GUARDED_BY(mutex_) = false;  // the channel will say when to go on
  bool timer_armed_ CALF_GUARDED_BY(mutex_) = false;
  bool room_wanted_ CALF_GUARDED_BY(mutex_) = false;
  uint64_t dropped_ CALF_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<Timer> timer_;  // last: its callback uses everything above
};

}  // namespace calf::devices
