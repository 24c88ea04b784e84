#include "tests/support/virtio_pci_guest.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <thread>

namespace calf::virtio {

VirtioPciGuest::VirtioPciGuest(devices::Bus& mmio, pci::HostBridge& bridge, pci::Address address,
                               devices::FakeDoorbells& doorbells)
    : mmio_(&mmio), bridge_(&bridge), address_(address), doorbells_(&doorbells) {
  find_structures();
}

void VirtioPciGuest::find_structures() {
  for (unsigned at = config(pci::kRegCapabilities, 1); at != 0; at = config(at + 1, 1)) {
    if (config(at, 1) == pci::kCapMsix) {
      msix_capability_ = static_cast<uint8_t>(at);
      msix_table_ = config(at + 4, 4) & ~7u;
      msix_pba_ = config(at + 8, 4) & ~7u;
    }
    if (config(at, 1) != pci::kCapVendor) continue;
    unsigned type = config(at + 3, 1);
    if (type == kPciCapPciCfg) cfg_capability_ = static_cast<uint8_t>(at);
    if (type == 0 || type > kPciCapPciCfg) continue;
    structures_[type] =
        Structure{static_cast<uint8_t>(config(at + 4, 1)), config(at + 8, 4), config(at + 12, 4)};
    if (type == kPciCapNotify) notify_multiplier_ = config(at + 16, 4);
  }
}

uint64_t VirtioPciGuest::bar() const {
  return uint64_t{config(pci::kRegBar0 + 4, 4)} << 32 |
         (config(pci::kRegBar0, 4) & ~uint32_t{pci::kBarMemoryFlags});
}

void VirtioPciGuest::move_bar(uint64_t address) {
  set_command(0);
  bridge_->write_config(address_, pci::kRegBar0, 4, static_cast<uint32_t>(address));
  bridge_->write_config(address_, pci::kRegBar0 + 4, 4, static_cast<uint32_t>(address >> 32));
  set_command(pci::kCommandMemory | pci::kCommandBusMaster);
}

void VirtioPciGuest::set_command(uint16_t command) {
  bridge_->write_config(address_, pci::kRegCommand, 2, command);
}

uint64_t VirtioPciGuest::load(uint64_t address, unsigned size) const {
  std::array<uint8_t, 8> data{};
  mmio_->read(address, std::span(data).first(size));
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i)
    value |= uint64_t{data[i]} << (8 * i);
  return value;
}

void VirtioPciGuest::store(uint64_t address, unsigned size, uint64_t value) {
  std::array<uint8_t, 8> data{};
  for (unsigned i = 0; i < size; ++i)
    data[i] = static_cast<uint8_t>(value >> (8 * i));
  mmio_->write(address, std::span<const uint8_t>(data).first(size));
}

uint64_t VirtioPciGuest::common(uint64_t offset, unsigned size) const {
  return load(at(kPciCapCommon) + offset, size);
}
void VirtioPciGuest::set_common(uint64_t offset, unsigned size, uint64_t value) {
  store(at(kPciCapCommon) + offset, size, value);
}
uint8_t VirtioPciGuest::status() const {
  return static_cast<uint8_t>(common(offsetof(CommonConfig, status), 1));
}
void VirtioPciGuest::set_status(uint8_t value) {
  set_common(offsetof(CommonConfig, status), 1, value);
}
uint64_t VirtioPciGuest::read_device(uint64_t offset, unsigned size) const {
  return load(at(kPciCapDevice) + offset, size);
}
void VirtioPciGuest::write_device(uint64_t offset, unsigned size, uint64_t value) {
  store(at(kPciCapDevice) + offset, size, value);
}
uint8_t VirtioPciGuest::read_isr() {
  return static_cast<uint8_t>(load(at(kPciCapIsr), 1));
}

uint64_t VirtioPciGuest::device_features() {
  uint64_t features = 0;
  for (uint32_t word = 0; word < 2; ++word) {
    set_common(offsetof(CommonConfig, device_feature_select), 4, word);
    features |= common(offsetof(CommonConfig, device_feature), 4) << (32 * word);
  }
  return features;
}

bool VirtioPciGuest::reset() {
  set_status(0);
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (status() != 0) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();  // as drivers do: the register is all there is to wait for
  }
  return true;
}

bool VirtioPciGuest::negotiate(uint64_t features) {
  set_command(pci::kCommandMemory | pci::kCommandBusMaster);
  if (!reset()) return false;
  set_status(kStatusAcknowledge);
  set_status(kStatusAcknowledge | kStatusDriver);
  for (uint32_t word = 0; word < 2; ++word) {
    set_common(offsetof(CommonConfig, driver_feature_select), 4, word);
    set_common(offsetof(CommonConfig, driver_feature), 4,
               static_cast<uint32_t>(features >> (32 * word)));
  }
  set_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
  return (status() & kStatusFeaturesOk) != 0;
}

void VirtioPciGuest::set_up_queue(uint16_t index, const VirtqueueDriver& queue, uint16_t vector) {
  set_common(offsetof(CommonConfig, queue_select), 2, index);
  set_common(offsetof(CommonConfig, queue_size), 2, queue.size());
  set_common(offsetof(CommonConfig, queue_vector), 2, vector);
  // Halves for one, whole for the others: both are allowed.
  set_common(offsetof(CommonConfig, queue_descriptors), 4,
             static_cast<uint32_t>(queue.descriptors()));
  set_common(offsetof(CommonConfig, queue_descriptors) + 4, 4, queue.descriptors() >> 32);
  set_common(offsetof(CommonConfig, queue_available), 8, queue.available());
  set_common(offsetof(CommonConfig, queue_used), 8, queue.used());
  set_common(offsetof(CommonConfig, queue_enable), 2, 1);
}

void VirtioPciGuest::set_driver_ok() {
  set_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk);
}

void VirtioPciGuest::program_vector(uint16_t vector, uint64_t address, uint32_t data) {
  uint64_t entry = bar() + msix_table_ + 16u * vector;
  store(entry, 4, static_cast<uint32_t>(address));
  store(entry + 4, 4, address >> 32);
  store(entry + 8, 4, data);
  store(entry + 12, 4, 0);
}
void VirtioPciGuest::mask_vector(uint16_t vector, bool masked) {
  store(bar() + msix_table_ + 16u * vector + 12, 4, masked ? 1 : 0);
}
bool VirtioPciGuest::vector_pending(uint16_t vector) {
  return (load(bar() + msix_pba_ + vector / 8, 1) >> (vector % 8) & 1) != 0;
}
void VirtioPciGuest::enable_msix(bool enabled, bool function_masked) {
  unsigned control = 0;
  if (enabled) control |= pci::kMsixControlEnable;
  if (function_masked) control |= pci::kMsixControlFunctionMask;
  bridge_->write_config(address_, msix_capability_ + pci::kMsixCapControl, 2, control);
}

void VirtioPciGuest::kick(uint16_t queue) {
  set_common(offsetof(CommonConfig, queue_select), 2, queue);
  uint64_t offset = common(offsetof(CommonConfig, queue_notify_offset), 2) * notify_multiplier_;
  uint64_t address = at(kPciCapNotify) + offset;
  for (auto [bell, length, fd] : doorbells_->attached()) {
    if (bell != address) continue;
    uint64_t one = 1;
    [[maybe_unused]] ssize_t n = ::write(fd, &one, sizeof one);
    return;
  }
  store(address, 2, queue);
}

}  // namespace calf::virtio
