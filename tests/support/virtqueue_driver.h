// The driver's side of a split virtqueue, written against the specification, not against Queue: it
// builds rings in guest memory, offers buffers and collects used ones.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "devices/virtio/spec.h"
#include "tests/support/fake_ram.h"

namespace calf::virtio {

class VirtqueueDriver {
 public:
  struct Piece {
    uint64_t address;
    uint32_t length;
    bool device_writes;
  };
  struct Used {
    uint16_t head;
    uint32_t written;
  };

  VirtqueueDriver(devices::FakeRam& ram, uint16_t size, bool event_index);

  uint16_t size() const { return size_; }
  uint64_t descriptors() const { return descriptors_; }
  uint64_t available() const { return available_; }
  uint64_t used() const { return used_; }

  // Offers a chain; it becomes visible with publish(). Nothing if the table has no room.
  std::optional<uint16_t> add(const std::vector<Piece>& pieces, bool indirect = false);
  // Shows what was added. True if the device wants a kick.
  bool publish();
  // The next used buffer, its descriptors free again.
  std::optional<Used> collect();
  // Asks for an interrupt when the next buffer is used (or, with `ahead`, so many after it). True
  // if there is something to collect already.
  bool enable_interrupts(uint16_t ahead = 0);
  void disable_interrupts();

  uint16_t used_index() const;
  uint16_t available_index() const { return available_next_; }
  unsigned free_descriptors() const { return static_cast<unsigned>(free_.size()); }

  // For drivers gone mad: raw access.
  void write_descriptor(uint16_t index, uint64_t address, uint32_t length, uint16_t flags,
                        uint16_t next);
  void write_descriptor_at(uint64_t table, uint16_t index, uint64_t address, uint32_t length,
                           uint16_t flags, uint16_t next);
  // An available entry that names `head`, whatever it is.
  void offer_raw(uint16_t head);
  void set_available_index(uint16_t index);

 private:
  devices::FakeRam* ram_;
  uint16_t size_;
  bool event_index_;
  uint64_t descriptors_;
  uint64_t available_;
  uint64_t used_;
  uint16_t available_next_ = 0;       // next entry to write
  uint16_t available_published_ = 0;  // what the device sees
  uint16_t used_next_ = 0;
  std::vector<uint16_t> free_;
  std::map<uint16_t, std::vector<uint16_t>> chains_;  // head -> its descriptors
};

}  // namespace calf::virtio
