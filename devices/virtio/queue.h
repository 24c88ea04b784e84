// Queue: the device's side of one split virtqueue.
//
//     driver                              device
//     descriptor table  ----------------> pop() follows a chain from its head
//     available ring: idx, heads -------> pop()
//     used ring: {head, length} <-------- push(), then publish() moves idx
//     used_event / flags ---------------> publish(): does the driver want an interrupt?
//     avail_event / flags <-------------- suppress_kicks(), allow_kicks()
//
// Memory order (virtio 2.7.13): idx of the available ring is read with acquire before the entries
// it covers; used elements are written before idx with release; and where one side writes an index
// and then reads the other side's wish (or the other way round) a full fence stands between, or
// both would sleep.
//
// Nothing the driver writes is trusted, and every word is read once. A chain is refused, and with
// it the queue, if an index is out of range, a chain is longer than the ring (a loop), a table is
// nested, a readable descriptor follows a writable one, a byte is not RAM, or the sum is beyond
// kMaxChainBytes. virtio 1.2, 2.7. Packed rings and in-order are not supported.
#pragma once

#include <cstdint>
#include <optional>

#include "block/base/result.h"
#include "devices/core/guest_memory.h"
#include "devices/virtio/chain.h"
#include "devices/virtio/device.h"
#include "devices/virtio/spec.h"

namespace calf::virtio {

class Queue {
 public:
  // virtio 2.7.5: no chain is longer than 2^32 bytes; one less keeps sums in 32 bits.
  static constexpr uint64_t kMaxChainBytes = UINT32_MAX;
  // Descriptors of an indirect table, which may be longer than the ring in practice; and pieces of
  // host memory in a chain, so that one system call takes them (IOV_MAX).
  static constexpr unsigned kMaxChainDescriptors = 1024;

  // `memory` outlives the queue. Fails if a ring is misaligned or not in RAM, or the size is no
  // power of two.
  static Result<Queue> create(const devices::GuestMemory& memory, const QueueSetup& setup,
                              uint64_t features);

  uint16_t index() const { return index_; }
  uint16_t size() const { return size_; }

  // The next available chain; nothing if there is none. An error means that the driver broke the
  // queue: nothing may be popped any more.
  Result<std::optional<Chain>> pop();

  // Writes a used element, which the driver does not see before publish().
  void push(uint16_t head, uint32_t written);
  // Shows what was pushed. True if the driver wants an interrupt for it.
  bool publish();

  // Asks the driver not to kick (a hint).
  void suppress_kicks();
  // The same, with effect on a driver that was just asked for a kick by allow_kicks().
  void silence_kicks();
  // Asks for kicks again; true if buffers have become available meanwhile, for which there will be
  // none: pop() them.
  bool allow_kicks();

 private:
  Queue() = default;
  Result<void> follow(Chain& chain) const;
  Result<void> append(Chain& chain, const Descriptor& descriptor) const;
  uint16_t available_index() const;
  uint64_t unseen(uint16_t available) const { return static_cast<uint16_t>(available - next_); }

  const devices::GuestMemory* memory_ = nullptr;
  uint16_t index_ = 0;
  uint16_t size_ = 0;
  bool event_index_ = false;
  bool indirect_ = false;
  // Host addresses of the rings, which lie in guest RAM for as long as the machine lives.
  uint8_t* descriptors_ = nullptr;
  uint8_t* available_ = nullptr;
  uint8_t* used_ = nullptr;

  uint16_t next_ = 0;            // next entry of the available ring to pop
  uint16_t used_next_ = 0;       // next entry of the used ring to push
  uint16_t used_published_ = 0;  // what the driver sees as idx
};

}  // namespace calf::virtio
