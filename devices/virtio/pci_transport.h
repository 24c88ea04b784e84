// PciTransport: a virtio device as a PCI function ("virtio-pci modern").
//
//     BAR 0, 64-bit, 32 KiB
//     0x0000  common configuration          0x3000  notifications: 4 bytes per queue,
//     0x1000  ISR status                            ioeventfd, the first an exit that does the same
//     0x2000  device configuration          0x4000  MSI-X table
//                                           0x5000  MSI-X pending bits
//
// virtio 1.2, 4.1. The legacy and transitional interfaces, packed rings, notification data and
// queue reset are not offered.
//
// Reset: a driver writes 0 to the status and polls until it reads 0. The write starts it, requests
// in flight end on the executor, and until then the status keeps its old value and every other
// register write is ignored. No vCPU waits.
//
// Threads: registers from vCPU threads, Notifier from executors.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "block/base/fd.h"
#include "block/base/log.h"
#include "block/base/result.h"
#include "devices/core/device.h"
#include "devices/core/guest_memory.h"
#include "devices/core/irq.h"
#include "devices/pci/function.h"
#include "devices/virtio/device.h"
#include "devices/virtio/spec.h"

namespace calf::virtio {

class PciTransport final : public pci::Function, private Notifier {
 public:
  struct Options {
    Device* device = nullptr;                      // not owned, outlives the transport
    const devices::GuestMemory* memory = nullptr;  // not owned
    devices::MsiController* msi = nullptr;         // null: INTx only
    Log* log = nullptr;
    std::string id;  // how log messages call it, e.g. "virtio-blk0"
  };

  // Fails if eventfds or message routes are not to be had.
  static Result<std::unique_ptr<PciTransport>> create(Options options);
  // The device was stopped (see stop()).
  ~PciTransport() override;

  // Stops the device and waits until nothing is in flight: before its executor is stopped, and
  // before the machine goes. No vCPU runs. Not on the executor's thread.
  void stop();

 private:
  struct QueueState {
    uint16_t size = 0;
    bool enabled = false;
    uint64_t descriptors = 0;
    uint64_t available = 0;
    uint64_t used = 0;
    Fd kick;
    // Read by the executor when it raises the interrupt.
    std::atomic<uint16_t> vector{kNoVector};
  };
  // What BAR accesses arrive at.
  class Registers final : public devices::Device {
   public:
    explicit Registers(PciTransport& transport) : transport_(&transport) {}
    void read(uint64_t offset, std::span<uint8_t> data) override;
    void write(uint64_t offset, std::span<const uint8_t> data) override;

   private:
    PciTransport* transport_;
  };
  enum class Phase : uint8_t {
    kStopped,    // the device does not run
    kRunning,    // between activate() and reset()
    kResetting,  // reset() was called, its `done` is awaited
  };

  explicit PciTransport(Options options, const pci::Identity& identity);
  Result<void> open();
  void add_capabilities();

  // pci::Function
  void before_config_read(unsigned offset, unsigned size) override;
  void after_config_write(unsigned offset, unsigned size) override;
  void reset_device() override;
  // Notifier
  void used_buffers(uint16_t queue) override;
  void configuration_changed() override;
  void needs_reset(std::string_view why) override;

  struct Window {
    uint64_t offset;
    uint32_t length;
  };
  std::optional<Window> cfg_window(unsigned offset, unsigned size);
  // BAR 0 by regions.
  void read_bar(uint64_t offset, std::span<uint8_t> data);
  void write_bar(uint64_t offset, std::span<const uint8_t> data);
  void kick(uint64_t notify_offset);
  uint8_t take_isr();
  void interrupt(uint16_t vector, uint8_t isr_bit);

  // The common configuration and what follows from it (pci_transport_common.cpp). mutex_ is held
  // where a function does not say otherwise.
  void read_common(uint64_t offset, std::span<uint8_t> data);         // takes mutex_
  void write_common(uint64_t offset, std::span<const uint8_t> data);  // takes mutex_
  void write_queue_field(uint64_t offset, size_t size, uint64_t value);
  void write_status(uint8_t value);
  bool features_acceptable() const;
  void activate();
  void finish_reset();  // takes mutex_
  void clear_state();
  uint16_t checked_vector(uint64_t value) const;
  uint64_t offered_features() const;
  QueueState* selected_queue();

  Options options_;
  Registers registers_;
  RateLimit log_limit_;
  uint8_t pci_cfg_capability_ = 0;
  std::atomic<bool> rung_ = false;  // doorbells are attached

  // Guards everything below but what is atomic. Not held while Device::reset() is called, which may
  // call back.
  std::mutex mutex_;
  std::condition_variable stopped_;
  Phase phase_ = Phase::kStopped;
  uint8_t status_ = 0;
  uint32_t device_feature_select_ = 0;
  uint32_t driver_feature_select_ = 0;
  uint64_t driver_features_ = 0;
  uint16_t queue_select_ = 0;
  std::vector<std::unique_ptr<QueueState>> queues_;
  std::atomic<uint16_t> config_vector_{kNoVector};

  std::mutex isr_mutex_;
  uint8_t isr_ = 0;
};

}  // namespace calf::virtio
