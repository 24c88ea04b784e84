// PciTransport: the common configuration structure, and the life of the device that it controls.

#include <algorithm>
#include <cstring>

#include "devices/virtio/pci_transport.h"

namespace calf::virtio {

uint64_t PciTransport::offered_features() const {
  return options_.device->features() | kFeatureVersion1 | kFeatureIndirectDescriptors |
         kFeatureEventIndex;
}

PciTransport::QueueState* PciTransport::selected_queue() {
  return queue_select_ < queues_.size() ? queues_[queue_select_].get() : nullptr;
}

void PciTransport::read_common(uint64_t offset, std::span<uint8_t> data) {
  CommonConfig common;
  {
    std::lock_guard lock(mutex_);
    common.device_feature_select = device_feature_select_;
    // Two words of features; words beyond are zero.
    if (device_feature_select_ < 2) {
      common.device_feature =
          static_cast<uint32_t>(offered_features() >> (32 * device_feature_select_));
    }
    common.driver_feature_select = driver_feature_select_;
    if (driver_feature_select_ < 2) {
      common.driver_feature =
          static_cast<uint32_t>(driver_features_ >> (32 * driver_feature_select_));
    }
    common.config_vector = config_vector_.load(std::memory_order_relaxed);
    common.queue_count = static_cast<uint16_t>(queues_.size());
    common.status = status_;
    common.config_generation = options_.device->config_generation();
    common.queue_select = queue_select_;
    if (const QueueState* queue = selected_queue()) {
      common.queue_size = queue->size;
      common.queue_vector = queue->vector.load(std::memory_order_relaxed);
      common.queue_enable = queue->enabled ? 1 : 0;
      common.queue_notify_offset = queue_select_;
      common.queue_descriptors = queue->descriptors;
      common.queue_available = queue->available;
      common.queue_used = queue->used;
    }
  }
  if (offset >= sizeof common) return;
  size_t count = std::min<size_t>(data.size(), sizeof common - offset);
  std::memcpy(data.data(), reinterpret_cast<const uint8_t*>(&common) + offset, count);
}

// Fields are written in their own width (4.1.3.1); anything else is ignored.
void PciTransport::write_common(uint64_t offset, std::span<const uint8_t> data) {
  uint64_t value = 0;
  if (data.size() > sizeof value) return;
  std::memcpy(&value, data.data(), data.size());
  auto is = [&](uint64_t field, size_t size) { return offset == field && data.size() == size; };

  std::unique_lock lock(mutex_);
  if (phase_ == Phase::kResetting) return;
  if (is(offsetof(CommonConfig, device_feature_select), 4)) {
    device_feature_select_ = static_cast<uint32_t>(value);
  } else if (is(offsetof(CommonConfig, driver_feature_select), 4)) {
    driver_feature_select_ = static_cast<uint32_t>(value);
  } else if (is(offsetof(CommonConfig, driver_feature), 4)) {
    if (driver_feature_select_ >= 2 || (status_ & kStatusFeaturesOk) != 0) return;
    unsigned shift = 32 * driver_feature_select_;
    driver_features_ &= ~(uint64_t{UINT32_MAX} << shift);
    driver_features_ |= value << shift;
  } else if (is(offsetof(CommonConfig, config_vector), 2)) {
    config_vector_.store(checked_vector(value), std::memory_order_relaxed);
  } else if (is(offsetof(CommonConfig, queue_select), 2)) {
    queue_select_ = static_cast<uint16_t>(value);
  } else if (is(offsetof(CommonConfig, status), 1)) {
    if (value == 0 && phase_ == Phase::kRunning) {
      phase_ = Phase::kResetting;
      lock.unlock();
      options_.device->reset([this] { finish_reset(); });
    } else if (value == 0) {
      clear_state();
      lock.unlock();
      take_isr();
    } else {
      write_status(static_cast<uint8_t>(value));
    }
  } else {
    write_queue_field(offset, data.size(), value);
  }
}

uint16_t PciTransport::checked_vector(uint64_t value) const {
  return msix() != nullptr && value < msix()->vectors() ? static_cast<uint16_t>(value) : kNoVector;
}

void PciTransport::write_queue_field(uint64_t offset, size_t size, uint64_t value) {
  QueueState* queue = selected_queue();
  if (queue == nullptr) return;
  if (offset == offsetof(CommonConfig, queue_vector) && size == 2) {
    queue->vector.store(checked_vector(value), std::memory_order_relaxed);
    return;
  }
  if (queue->enabled) return;  // its rings are fixed until reset
  if (offset == offsetof(CommonConfig, queue_size) && size == 2) {
    if (value != 0 && value <= options_.device->queue_size_max()) {
      queue->size = static_cast<uint16_t>(value);
    }
  } else if (offset == offsetof(CommonConfig, queue_enable) && size == 2) {
    queue->enabled = value == 1 && phase_ == Phase::kStopped;
  } else if (size == 4 || size == 8) {
    auto write_address = [&](uint64_t field, uint64_t& address) {
      if (offset == field && size == 8) {
        address = value;
      } else if (offset == field) {
        address = (address & ~uint64_t{UINT32_MAX}) | value;
      } else if (offset == field + 4 && size == 4) {
        address = (address & UINT32_MAX) | value << 32;
      }
    };
    write_address(offsetof(CommonConfig, queue_descriptors), queue->descriptors);
    write_address(offsetof(CommonConfig, queue_available), queue->available);
    write_address(offsetof(CommonConfig, queue_used), queue->used);
  }
}

bool PciTransport::features_acceptable() const {
  return (driver_features_ & ~offered_features()) == 0 &&
         (driver_features_ & kFeatureVersion1) != 0;
}

// The driver only ever adds bits (2.1.1); NEEDS_RESET is ours.
void PciTransport::write_status(uint8_t value) {
  uint8_t added = static_cast<uint8_t>(value & ~status_ & ~kStatusNeedsReset);
  if ((added & kStatusFeaturesOk) != 0 && !features_acceptable()) {
    added = static_cast<uint8_t>(added & ~kStatusFeaturesOk);
  }
  bool features_ok = ((status_ | added) & kStatusFeaturesOk) != 0;
  if ((added & kStatusDriverOk) != 0 && !features_ok) {
    added = static_cast<uint8_t>(added & ~kStatusDriverOk);
    if (log_limit_.allow()) {
      options_.log->warning(
          "{}: the guest's driver did not agree on features (is it a legacy one?)", options_.id);
    }
  }
  status_ = static_cast<uint8_t>(status_ | added);
  if ((added & kStatusFailed) != 0 && log_limit_.allow()) {
    options_.log->warning("{}: the guest's driver gave the device up", options_.id);
  }
  if ((added & kStatusDriverOk) != 0) activate();
}

void PciTransport::activate() {
  Activation activation;
  activation.features = driver_features_;
  activation.memory = options_.memory;
  activation.notifier = this;
  for (size_t i = 0; i < queues_.size(); ++i) {
    const QueueState& queue = *queues_[i];
    if (!queue.enabled) continue;
    activation.queues.push_back({static_cast<uint16_t>(i), queue.size,
                                 devices::Gpa{queue.descriptors}, devices::Gpa{queue.available},
                                 devices::Gpa{queue.used}, queue.kick.get()});
  }
  phase_ = Phase::kRunning;
  options_.device->activate(std::move(activation));
}

void PciTransport::finish_reset() {
  take_isr();
  std::lock_guard lock(mutex_);
  clear_state();
  phase_ = Phase::kStopped;
  // Under the lock: who waits may destroy this object as soon as it is released.
  stopped_.notify_all();
}

void PciTransport::clear_state() {
  status_ = 0;
  device_feature_select_ = 0;
  driver_feature_select_ = 0;
  driver_features_ = 0;
  queue_select_ = 0;
  config_vector_.store(kNoVector, std::memory_order_relaxed);
  for (auto& queue : queues_) {
    queue->size = options_.device->queue_size_max();
    queue->enabled = false;
    queue->descriptors = queue->available = queue->used = 0;
    queue->vector.store(kNoVector, std::memory_order_relaxed);
  }
}

}  // namespace calf::virtio
