// Device: what a virtio device is, without the transport that carries it.
//
//     PciTransport  -- features, configuration space, activate, reset -->  Device
//                   <-- Notifier: used buffers, configuration changes --
//
// virtio 1.2, chapter 2. The transport offers and negotiates VERSION_1 and the ring features;
// everything else in features() is the device type's.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "devices/core/guest_memory.h"

namespace calf::virtio {

// What a device tells the driver. Any thread, never blocks. Calls for a device that was reset in
// the meantime do nothing.
class Notifier {
 public:
  virtual ~Notifier() = default;
  // Queue `queue` has new used buffers that the driver wants to hear of.
  virtual void used_buffers(uint16_t queue) = 0;
  // The device configuration changed.
  virtual void configuration_changed() = 0;
  // The driver broke the rules in a way that no request can answer; the device does nothing until
  // it is reset. `why` goes to the log, rate-limited.
  virtual void needs_reset(std::string_view why) = 0;
};

// Where a queue lies, as the driver says: nothing of it is checked (Queue::create does).
struct QueueSetup {
  uint16_t index = 0;
  uint16_t size = 0;
  devices::Gpa descriptors{};  // descriptor area
  devices::Gpa available{};    // driver area
  devices::Gpa used{};         // device area
  int kick_fd = -1;            // eventfd, signalled when buffers are available; not owned
};

struct Activation {
  uint64_t features = 0;           // negotiated
  std::vector<QueueSetup> queues;  // the enabled ones
  const devices::GuestMemory* memory = nullptr;
  Notifier* notifier = nullptr;
};

// What it took to talk with the driver, since the device was made.
struct QueueCounters {
  uint64_t requests = 0;    // chains taken
  uint64_t kicks = 0;       // doorbells rung by the driver
  uint64_t interrupts = 0;  // notifications of used buffers

  QueueCounters& operator+=(const QueueCounters& other) {
    requests += other.requests;
    kicks += other.kicks;
    interrupts += other.interrupts;
    return *this;
  }
};

class Device {
 public:
  virtual ~Device() = default;

  // Type number (virtio 1.2, chapter 5) and the PCI class code to go with it.
  virtual uint16_t type() const = 0;
  virtual uint32_t pci_class() const = 0;
  virtual const char* name() const = 0;

  // Features offered, without the transport's.
  virtual uint64_t features() const = 0;
  virtual uint16_t queue_count() const = 0;
  // Largest ring, a power of two.
  virtual uint16_t queue_size_max() const = 0;

  // Device configuration space. Bytes past its end read as zero, writes to what is not writable are
  // ignored. vCPU threads.
  virtual void read_config(uint64_t offset, std::span<uint8_t> data) const = 0;
  virtual void write_config(uint64_t offset, std::span<const uint8_t> data) = 0;
  // Changes whenever more than one field of the configuration may have changed between two reads.
  virtual uint8_t config_generation() const = 0;

  // The driver is ready (DRIVER_OK): the device starts to work. Called while it is stopped. Does
  // not wait.
  virtual void activate(Activation activation) = 0;
  // Stops the device. `done` is called exactly once, on any thread, maybe before reset() returns:
  // nothing is in flight any more and guest memory is left alone from then on. Does not wait. Only
  // after activate(), and not again before `done`.
  virtual void reset(std::function<void()> done) = 0;

  // Of all its queues. While the device is stopped.
  virtual QueueCounters counters() const = 0;
};

}  // namespace calf::virtio
