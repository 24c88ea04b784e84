// Rng: virtio's entropy device. It fills every buffer from getrandom(), which does not block once
// the host has booted, at most kMaxBytes per buffer: the driver is told how many it got and asks
// again.
//
// virtio 1.2, 5.4. One queue, no features, no configuration.
#pragma once

#include "devices/virtio/queue_device.h"
#include "devices/virtio/spec.h"

namespace calf::virtio {

class Rng final : public QueueDevice {
 public:
  static constexpr size_t kMaxBytes = 4096;

  // `executor` outlives the device, and runs until the device was reset.
  explicit Rng(Executor& executor) : QueueDevice(executor) {}

  uint16_t type() const override { return kTypeEntropy; }
  uint32_t pci_class() const override { return 0x00ff00; }
  const char* name() const override { return "virtio-rng"; }
  uint64_t features() const override { return 0; }
  uint16_t queue_count() const override { return 1; }
  uint16_t queue_size_max() const override { return 64; }
  void read_config(uint64_t offset, std::span<uint8_t> data) const override;
  void write_config(uint64_t, std::span<const uint8_t>) override {}
  uint8_t config_generation() const override { return 0; }

 private:
  void starting(uint64_t) override {}
  void take(QueueRunner& runner, Chain chain) override;
};

}  // namespace calf::virtio
