#include "devices/virtio/queue.h"

#include "block/base/byte_range.h"
#include "devices/virtio/ring_memory.h"

namespace calf::virtio {
namespace {

using devices::Gpa;
using devices::GuestMemory;

Error broken(std::string_view what) {
  return make_error(ErrorKind::kInvalid, "{}", what);
}

// One descriptor, read once. Tables in guest memory are aligned to 16, indirect ones may not be.
std::optional<Descriptor> read_descriptor(const GuestMemory& memory, Gpa table, uint32_t index) {
  return memory.read_object<Descriptor>(table + uint64_t{index} * sizeof(Descriptor));
}

Descriptor load_descriptor(const uint8_t* at) {
  Descriptor descriptor;
  descriptor.address = load_shared<uint64_t>(at);
  descriptor.length = load_shared<uint32_t>(at + 8);
  descriptor.flags = load_shared<uint16_t>(at + 12);
  descriptor.next = load_shared<uint16_t>(at + 14);
  return descriptor;
}

// virtio 2.7.10.1, vring_need_event: did the index pass `event` on its way from `old` to `now`?
bool passed(uint16_t event, uint16_t now, uint16_t old) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - old);
}

Result<uint8_t*> map_ring(const GuestMemory& memory, Gpa at, uint64_t bytes, uint64_t alignment,
                          GuestMemory::Access access, const char* what) {
  std::optional<std::span<uint8_t>> host = memory.translate(at, bytes, access);
  if (!is_aligned(raw(at), alignment) || !host ||
      !is_aligned(reinterpret_cast<uintptr_t>(host->data()), alignment)) {
    return make_error(ErrorKind::kInvalid, "its {} at {:#x} is not in RAM or not aligned to {}",
                      what, raw(at), alignment);
  }
  return host->data();
}

}  // namespace

Result<Queue> Queue::create(const GuestMemory& memory, const QueueSetup& setup, uint64_t features) {
  if (!is_power_of_two(setup.size) || setup.size > kMaxQueueSize) {
    return make_error(ErrorKind::kInvalid, "its size {} is no power of two", setup.size);
  }
  Queue queue;
  queue.memory_ = &memory;
  queue.index_ = setup.index;
  queue.size_ = setup.size;
  queue.event_index_ = (features & kFeatureEventIndex) != 0;
  queue.indirect_ = (features & kFeatureIndirectDescriptors) != 0;
  using enum GuestMemory::Access;
  TRY(queue.descriptors_, map_ring(memory, setup.descriptors, descriptor_table_bytes(setup.size),
                                   16, kRead, "descriptor table"));
  TRY(queue.available_, map_ring(memory, setup.available, available_ring_bytes(setup.size), 2,
                                 kRead, "available ring"));
  TRY(queue.used_,
      map_ring(memory, setup.used, used_ring_bytes(setup.size), 4, kWrite, "used ring"));
  return queue;
}

uint16_t Queue::available_index() const {
  return load_shared<uint16_t>(available_ + kAvailableIndex, std::memory_order_acquire);
}

Result<std::optional<Chain>> Queue::pop() {
  uint64_t count = unseen(available_index());
  if (count == 0) return std::optional<Chain>();
  if (count > size_) return broken("the available index ran ahead by more than the ring");
  uint64_t slot = next_ & (size_ - 1u);
  Chain chain;
  chain.head = load_shared<uint16_t>(available_ + kAvailableRing + 2 * slot);
  if (chain.head >= size_) return broken("an available entry is no descriptor of the table");
  TRY_VOID(follow(chain));
  ++next_;
  return std::optional<Chain>(std::move(chain));
}

Result<void> Queue::follow(Chain& chain) const {
  Descriptor descriptor = load_descriptor(descriptors_ + uint64_t{16} * chain.head);
  if ((descriptor.flags & kDescriptorIndirect) == 0) {
    for (unsigned count = 1;; ++count) {
      if ((descriptor.flags & kDescriptorIndirect) != 0) {
        return broken("an indirect table hangs on a chain");
      }
      TRY_VOID(append(chain, descriptor));
      if ((descriptor.flags & kDescriptorNext) == 0) return {};
      if (count == size_) return broken("a descriptor chain loops");
      if (descriptor.next >= size_) return broken("a descriptor chain leaves the table");
      descriptor = load_descriptor(descriptors_ + uint64_t{16} * descriptor.next);
    }
  }

  if (!indirect_) return broken("an indirect table, which was not negotiated");
  if ((descriptor.flags & kDescriptorNext) != 0) return broken("an indirect table has a successor");
  uint32_t bytes = descriptor.length;
  uint32_t entries = bytes / sizeof(Descriptor);
  if (entries == 0 || bytes % sizeof(Descriptor) != 0 || entries > kMaxChainDescriptors) {
    return broken("the length of an indirect table");
  }
  Gpa table{descriptor.address.value()};
  uint32_t next = 0;
  for (unsigned count = 1;; ++count) {
    std::optional<Descriptor> entry = read_descriptor(*memory_, table, next);
    if (!entry) return broken("an indirect table is not in RAM");
    if ((entry->flags & kDescriptorIndirect) != 0) return broken("indirect tables are nested");
    TRY_VOID(append(chain, *entry));
    if ((entry->flags & kDescriptorNext) == 0) return {};
    if (count == entries) return broken("an indirect chain loops");
    if (entry->next >= entries) return broken("an indirect chain leaves its table");
    next = entry->next;
  }
}

Result<void> Queue::append(Chain& chain, const Descriptor& descriptor) const {
  bool writable = (descriptor.flags & kDescriptorWrite) != 0;
  bool writable_before = chain.iovecs.size() > chain.readable_iovecs;
  if (!writable && writable_before) return broken("a readable descriptor after a writable one");
  uint32_t length = descriptor.length;
  if (length == 0) return {};  // harmless
  if (chain.readable_bytes + chain.writable_bytes + length > kMaxChainBytes) {
    return broken("a descriptor chain of more than 4 GiB");
  }
  auto access = writable ? GuestMemory::Access::kWrite : GuestMemory::Access::kRead;
  if (!memory_->append_iovecs(Gpa{descriptor.address.value()}, length, chain.iovecs, access)) {
    return broken("a descriptor points outside of RAM");
  }
  if (chain.iovecs.size() > kMaxChainDescriptors) return broken("a chain of too many pieces");
  if (writable) {
    chain.writable_bytes += length;
  } else {
    chain.readable_bytes += length;
    chain.readable_iovecs = chain.iovecs.size();
  }
  return {};
}

void Queue::push(uint16_t head, uint32_t written) {
  uint64_t slot = used_next_ & (size_ - 1u);
  uint8_t* element = used_ + kUsedRing + kUsedElementSize * slot;
  store_shared<uint32_t>(element, head);
  store_shared<uint32_t>(element + 4, written);
  ++used_next_;
}

bool Queue::publish() {
  uint16_t old = used_published_;
  if (old == used_next_) return false;
  used_published_ = used_next_;
  store_shared<uint16_t>(used_ + kUsedIndex, used_published_, std::memory_order_release);
  full_fence();
  if (event_index_) {
    uint64_t used_event = kAvailableRing + uint64_t{2} * size_;
    return passed(load_shared<uint16_t>(available_ + used_event), used_published_, old);
  }
  uint16_t flags = load_shared<uint16_t>(available_ + kAvailableFlags);
  return (flags & kAvailableNoInterrupt) == 0;
}

void Queue::suppress_kicks() {
  // With event index nothing is to be done: avail_event stands where the last kick was asked for,
  // and the driver, being past it, does not kick.
  if (!event_index_) store_shared<uint16_t>(used_ + kUsedFlags, kUsedNoNotify);
}

void Queue::silence_kicks() {
  if (!event_index_) return suppress_kicks();
  // An index that the driver has passed.
  auto passed = static_cast<uint16_t>(next_ - 1);
  store_shared<uint16_t>(used_ + kUsedRing + kUsedElementSize * size_, passed);
}

bool Queue::allow_kicks() {
  if (event_index_) {
    store_shared<uint16_t>(used_ + kUsedRing + kUsedElementSize * size_, next_);
  } else {
    store_shared<uint16_t>(used_ + kUsedFlags, 0);
  }
  full_fence();
  return unseen(available_index()) != 0;
}

}  // namespace calf::virtio
