// A guest's driver of a virtio-pci device: finds the structures by the capabilities, negotiates,
// sets queues up, and kicks through a doorbell where one is attached. Written against the
// specification.
#pragma once

#include <cstdint>
#include <optional>

#include "devices/core/bus.h"
#include "devices/pci/host_bridge.h"
#include "devices/virtio/spec.h"
#include "tests/support/fake_msi.h"
#include "tests/support/virtqueue_driver.h"

namespace calf::virtio {

class VirtioPciGuest {
 public:
  VirtioPciGuest(devices::Bus& mmio, pci::HostBridge& bridge, pci::Address address,
                 devices::FakeDoorbells& doorbells);

  // Where things are, read from configuration space.
  void find_structures();
  bool has(PciCapabilityType type) const { return structures_[type].has_value(); }
  uint8_t cfg_capability() const { return cfg_capability_; }

  uint64_t bar() const;
  void move_bar(uint64_t address);
  void set_command(uint16_t command);

  // Common configuration by offset.
  uint64_t common(uint64_t offset, unsigned size) const;
  void set_common(uint64_t offset, unsigned size, uint64_t value);
  uint8_t status() const;
  void set_status(uint8_t value);
  uint64_t device_features();
  uint64_t read_device(uint64_t offset, unsigned size) const;
  void write_device(uint64_t offset, unsigned size, uint64_t value);
  uint8_t read_isr();

  // Writes 0 and polls; false if the device does not come back within ten seconds.
  bool reset();
  // Reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK. False if the device refuses them.
  bool negotiate(uint64_t features);
  void set_up_queue(uint16_t index, const VirtqueueDriver& queue, uint16_t vector);
  void set_driver_ok();

  // MSI-X: address and data of a vector; function enable.
  void program_vector(uint16_t vector, uint64_t address, uint32_t data);
  void mask_vector(uint16_t vector, bool masked);
  bool vector_pending(uint16_t vector);
  void enable_msix(bool enabled, bool function_masked = false);

  void kick(uint16_t queue);

 private:
  struct Structure {
    uint8_t bar;
    uint32_t offset;
    uint32_t length;
  };
  uint64_t at(PciCapabilityType type) const { return bar() + structures_[type]->offset; }
  uint64_t load(uint64_t address, unsigned size) const;
  void store(uint64_t address, unsigned size, uint64_t value);
  uint32_t config(unsigned offset, unsigned size) const {
    return bridge_->read_config(address_, offset, size);
  }

  devices::Bus* mmio_;
  pci::HostBridge* bridge_;
  pci::Address address_;
  devices::FakeDoorbells* doorbells_;
  std::optional<Structure> structures_[6];
  uint32_t notify_multiplier_ = 0;
  uint8_t cfg_capability_ = 0;
  uint8_t msix_capability_ = 0;
  uint64_t msix_table_ = 0;  // in the BAR
  uint64_t msix_pba_ = 0;
};

}  // namespace calf::virtio
