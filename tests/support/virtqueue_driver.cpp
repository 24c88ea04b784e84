#include "tests/support/virtqueue_driver.h"

#include <atomic>

#include "devices/virtio/ring_memory.h"

namespace calf::virtio {

VirtqueueDriver::VirtqueueDriver(devices::FakeRam& ram, uint16_t size, bool event_index)
    : ram_(&ram),
      size_(size),
      event_index_(event_index),
      descriptors_(ram.allocate(16u * size, 16)),
      available_(ram.allocate(6u + 2u * size, 2)),
      used_(ram.allocate(6u + 8u * size, 4)) {
  for (uint16_t i = size; i > 0; --i)
    free_.push_back(static_cast<uint16_t>(i - 1));
}

void VirtqueueDriver::write_descriptor_at(uint64_t table, uint16_t index, uint64_t address,
                                          uint32_t length, uint16_t flags, uint16_t next) {
  uint8_t* at = ram_->at(table + 16u * index);
  store_shared<uint64_t>(at, address);
  store_shared<uint32_t>(at + 8, length);
  store_shared<uint16_t>(at + 12, flags);
  store_shared<uint16_t>(at + 14, next);
}

void VirtqueueDriver::write_descriptor(uint16_t index, uint64_t address, uint32_t length,
                                       uint16_t flags, uint16_t next) {
  write_descriptor_at(descriptors_, index, address, length, flags, next);
}

std::optional<uint16_t> VirtqueueDriver::add(const std::vector<Piece>& pieces, bool indirect) {
  size_t needed = indirect ? 1 : pieces.size();
  if (needed == 0 || free_.size() < needed) return std::nullopt;
  std::vector<uint16_t> taken;
  for (size_t i = 0; i < needed; ++i) {
    taken.push_back(free_.back());
    free_.pop_back();
  }
  auto flags = [&](size_t i) {
    unsigned f = 0;
    if (pieces[i].device_writes) f |= kDescriptorWrite;
    if (i + 1 < pieces.size()) f |= kDescriptorNext;
    return static_cast<uint16_t>(f);
  };
  if (indirect) {
    uint64_t table = ram_->allocate(16 * pieces.size(), 16);
    for (size_t i = 0; i < pieces.size(); ++i) {
      write_descriptor_at(table, static_cast<uint16_t>(i), pieces[i].address, pieces[i].length,
                          flags(i), static_cast<uint16_t>(i + 1));
    }
    write_descriptor(taken[0], table, static_cast<uint32_t>(16 * pieces.size()),
                     kDescriptorIndirect, 0);
  } else {
    for (size_t i = 0; i < pieces.size(); ++i) {
      uint16_t next = i + 1 < pieces.size() ? taken[i + 1] : uint16_t{0};
      write_descriptor(taken[i], pieces[i].address, pieces[i].length, flags(i), next);
    }
  }
  uint16_t head = taken[0];
  offer_raw(head);
  chains_[head] = std::move(taken);
  return head;
}

void VirtqueueDriver::offer_raw(uint16_t head) {
  uint64_t slot = available_next_ % size_;
  store_shared<uint16_t>(ram_->at(available_ + kAvailableRing + 2 * slot), head);
  ++available_next_;
}

void VirtqueueDriver::set_available_index(uint16_t index) {
  store_shared<uint16_t>(ram_->at(available_ + kAvailableIndex), index, std::memory_order_release);
}

bool VirtqueueDriver::publish() {
  uint16_t old = available_published_;
  available_published_ = available_next_;
  set_available_index(available_published_);
  full_fence();
  if (!event_index_) {
    return (load_shared<uint16_t>(ram_->at(used_ + kUsedFlags)) & kUsedNoNotify) == 0;
  }
  uint16_t event = load_shared<uint16_t>(ram_->at(used_ + kUsedRing + 8u * size_));
  return static_cast<uint16_t>(available_published_ - event - 1) <
         static_cast<uint16_t>(available_published_ - old);
}

uint16_t VirtqueueDriver::used_index() const {
  return load_shared<uint16_t>(ram_->at(used_ + kUsedIndex), std::memory_order_acquire);
}

std::optional<VirtqueueDriver::Used> VirtqueueDriver::collect() {
  if (used_index() == used_next_) return std::nullopt;
  uint8_t* element = ram_->at(used_ + kUsedRing + 8u * (used_next_ % size_));
  uint32_t head = load_shared<uint32_t>(element);
  uint32_t written = load_shared<uint32_t>(element + 4);
  ++used_next_;
  auto chain = chains_.find(static_cast<uint16_t>(head));
  if (chain != chains_.end()) {
    free_.insert(free_.end(), chain->second.rbegin(), chain->second.rend());
    chains_.erase(chain);
  }
  return Used{static_cast<uint16_t>(head), written};
}

bool VirtqueueDriver::enable_interrupts(uint16_t ahead) {
  if (event_index_) {
    store_shared<uint16_t>(ram_->at(available_ + kAvailableRing + 2u * size_),
                           static_cast<uint16_t>(used_next_ + ahead));
  } else {
    store_shared<uint16_t>(ram_->at(available_ + kAvailableFlags), uint16_t{0});
  }
  full_fence();
  return used_index() != used_next_;
}

void VirtqueueDriver::disable_interrupts() {
  if (!event_index_) {
    store_shared<uint16_t>(ram_->at(available_ + kAvailableFlags), kAvailableNoInterrupt);
  }
}

}  // namespace calf::virtio
