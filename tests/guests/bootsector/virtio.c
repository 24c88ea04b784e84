#include "virtio.h"

// Common configuration structure, 4.1.4.3
enum {
  DEVICE_FEATURE_SELECT = 0,
  DEVICE_FEATURE = 4,
  DRIVER_FEATURE_SELECT = 8,
  DRIVER_FEATURE = 12,
  CONFIG_MSIX = 16,
  DEVICE_STATUS = 20,
  QUEUE_SELECT = 22,
  QUEUE_SIZE = 24,
  QUEUE_MSIX = 26,
  QUEUE_ENABLE = 28,
  QUEUE_NOTIFY_OFF = 30,
  QUEUE_DESC = 32,
  QUEUE_DRIVER = 40,
  QUEUE_DEVICE = 48
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4 };
enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
enum { CAPABILITY_VENDOR = 0x09, FIRST_VECTOR = 0x40, NO_VECTOR = 0xFFFF };

// Address of what a vendor capability points to, its BAR moved first when `move-bars` asks for it;
// 0 when it is not there.
static u64 structure(struct virtio* device, u8 type, u8* capability, u32* length) {
  for (u8 at = 0; (at = pci_capability(device->slot, CAPABILITY_VENDOR, at)) != 0;) {
    if (pci_read(device->slot, at + 3, 1) != type) continue;
    u64 size;
    u64 base = pci_bar(device->slot, pci_read(device->slot, at + 4, 1), &size);
    u32 offset = pci_read(device->slot, at + 8, 4);
    *length = pci_read(device->slot, at + 12, 4);
    if (base == 0) fail("virtio BAR is not assigned");
    if ((u64)offset + *length > size) fail("virtio capability %u leaves its BAR", (u64)type);
    memory_map(base, size);
    *capability = at;
    return base + offset;
  }
  return 0;
}

// Each memory BAR to a place of its own in what every machine has as its PCI window.
static void move_bars(u8 slot, u64 to) {
  for (u32 index = 0; index < 6; index++) {
    u32 low = pci_read(slot, (u16)(0x10 + 4 * index), 4);
    u64 size, base = (low & 1) != 0 ? 0 : pci_bar(slot, index, &size);
    if (base != 0 && size >= 16) {
      pci_bar_move(slot, index, round_up(to, size));
      to = round_up(to, size) + size;
    }
    if ((low & 7) == 4) index++;
  }
}

bool virtio_open(struct virtio* device, u16 id, u32 index, u64 wanted) {
  struct pci_device found;
  memset(device, 0, sizeof *device);
  if (!pci_find(VIRTIO_VENDOR, id, index, &found)) return false;
  device->slot = found.slot;
  if (param_flag("move-bars", false)) move_bars(found.slot, 0xD0000000 + MIB * found.slot);
  pci_write(found.slot, 4, 2, (pci_read(found.slot, 4, 2) & 0xFFFF) | 6);  // memory, bus master

  u8 capability;
  u32 length;
  device->common = structure(device, CAP_COMMON, &capability, &length);
  device->isr = structure(device, CAP_ISR, &capability, &length);
  device->config = structure(device, CAP_DEVICE, &capability, &device->config_length);
  device->notify = structure(device, CAP_NOTIFY, &capability, &length);
  if (device->common == 0 || device->notify == 0)
    fail("virtio device without common or notify structure");
  device->notify_multiplier = pci_read(found.slot, capability + 16, 4);

  MMIO8(device->common + DEVICE_STATUS) = 0;
  while (MMIO8(device->common + DEVICE_STATUS) != 0)
    pause();
  MMIO8(device->common + DEVICE_STATUS) = ACKNOWLEDGE;
  MMIO8(device->common + DEVICE_STATUS) = ACKNOWLEDGE | DRIVER;
  for (u32 half = 0; half < 2; half++) {
    MMIO32(device->common + DEVICE_FEATURE_SELECT) = half;
    device->offered |= (u64)MMIO32(device->common + DEVICE_FEATURE) << (32 * half);
  }
  if ((device->offered >> F_VERSION_1 & 1) == 0) fail("virtio device without VERSION_1");
  device->features = device->offered & (wanted | 1ull << F_VERSION_1);
  for (u32 half = 0; half < 2; half++) {
    MMIO32(device->common + DRIVER_FEATURE_SELECT) = half;
    MMIO32(device->common + DRIVER_FEATURE) = (u32)(device->features >> (32 * half));
  }
  MMIO8(device->common + DEVICE_STATUS) = ACKNOWLEDGE | DRIVER | FEATURES_OK;
  if ((MMIO8(device->common + DEVICE_STATUS) & FEATURES_OK) == 0)
    fail("virtio device refuses features it offered");
  return true;
}

bool virtio_has(const struct virtio* device, u32 feature) {
  return (device->features >> feature & 1) != 0;
}

void virtio_start(struct virtio* device) {
  MMIO8(device->common + DEVICE_STATUS) = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
}

// Table entry n: address, data, mask. Returns false where there is no MSI-X.
static bool msix_set(struct virtio* device, u16 entry, u32 apic_id, u8 vector) {
  u8 at = pci_capability(device->slot, CAPABILITY_MSIX, 0);
  if (at == 0) return false;
  u32 control = pci_read(device->slot, at + 2, 2);
  if (entry > (control & 0x7FF)) return false;
  u32 place = pci_read(device->slot, at + 4, 4);
  u64 size, base = pci_bar(device->slot, place & 7, &size);
  u64 table = (u64)memory_map(base, size) + (place & ~7u) + 16 * entry;
  MMIO32(table) = 0xFEE00000 | apic_id << 12;
  MMIO32(table + 4) = 0;
  MMIO32(table + 8) = vector;
  MMIO32(table + 12) = 0;
  pci_write(device->slot, at + 2, 2, control | 0x8000);
  return true;
}

void queue_open(struct virtio* device, struct queue* queue, u16 index, u16 size, u32 apic_id) {
  memset(queue, 0, sizeof *queue);
  MMIO16(device->common + QUEUE_SELECT) = index;
  u16 largest = MMIO16(device->common + QUEUE_SIZE);
  if (largest == 0) fail("virtqueue %u does not exist", (u64)index);
  queue->index = index;
  queue->size = (u16)min(min(largest, size), MAX_QUEUE);
  queue->descriptors = memory_allocate(16 * queue->size, 4096);
  queue->available = memory_allocate(6 + 2 * queue->size, 2);
  queue->used = memory_allocate(6 + 8 * queue->size, 4);
  for (u16 i = 0; i < queue->size; i++)
    queue->descriptors[i].next = (u16)(i + 1);
  queue->free_count = queue->size;
  queue->vector = NO_VECTOR;

  MMIO16(device->common + QUEUE_SIZE) = queue->size;
  if (device->interrupts) {
    queue->vector = (u16)(FIRST_VECTOR + index);
    if (!msix_set(device, (u16)(index + 1), apic_id, (u8)queue->vector))
      fail("no MSI-X vector for queue %u", (u64)index);
    MMIO16(device->common + QUEUE_MSIX) = (u16)(index + 1);
    if (MMIO16(device->common + QUEUE_MSIX) != index + 1)
      fail("device refuses MSI-X vector %u", (u64)index + 1);
  }
  // 64-bit fields in two halves: the width that every device must take (4.1.3.1).
  const u64 addresses[3] = {(u64)queue->descriptors, (u64)queue->available, (u64)queue->used};
  for (u32 i = 0; i < 3; i++) {
    MMIO32(device->common + QUEUE_DESC + 8 * i) = (u32)addresses[i];
    MMIO32(device->common + QUEUE_DESC + 8 * i + 4) = (u32)(addresses[i] >> 32);
  }
  queue->notify =
      device->notify + (u64)MMIO16(device->common + QUEUE_NOTIFY_OFF) * device->notify_multiplier;
  MMIO16(device->common + QUEUE_ENABLE) = 1;
  if (queue->vector == NO_VECTOR && !virtio_has(device, F_EVENT_IDX))
    queue->available[0] = 1;  // NO_INTERRUPT
}

bool queue_submit(struct virtio* device, struct queue* queue, struct slot* slot,
                  const struct piece* pieces, u32 count, bool indirect) {
  indirect = indirect && virtio_has(device, F_INDIRECT) && slot->table != NULL;
  u32 needed = indirect ? 1 : count;
  lock_take(&queue->lock);
  if (queue->free_count < needed) {
    lock_drop(&queue->lock);
    return false;
  }
  slot->done = false;
  slot->chain = (u16)needed;
  u16 head = queue->free_head, last = head;
  if (indirect) {
    for (u32 i = 0; i < count; i++) {
      u16 flags =
          (u16)((pieces[i].device_writes ? DESC_WRITE : 0) | (i + 1 < count ? DESC_NEXT : 0));
      slot->table[i] =
          (struct descriptor){(u64)pieces[i].data, pieces[i].length, flags, (u16)(i + 1)};
    }
    volatile struct descriptor* d = &queue->descriptors[head];
    d->address = (u64)slot->table;
    d->length = 16 * count;
    d->flags = DESC_INDIRECT;
  } else {
    for (u32 i = 0; i < count; i++) {
      volatile struct descriptor* d = &queue->descriptors[last];
      d->address = (u64)pieces[i].data;
      d->length = pieces[i].length;
      d->flags =
          (u16)((pieces[i].device_writes ? DESC_WRITE : 0) | (i + 1 < count ? DESC_NEXT : 0));
      if (i + 1 < count) last = d->next;
    }
  }
  queue->free_head = queue->descriptors[last].next;
  queue->free_count = (u16)(queue->free_count - needed);
  queue->owner[head] = slot;
  queue->available[2 + queue->next_available % queue->size] = head;
  queue->next_available++;
  lock_drop(&queue->lock);
  return true;
}

void queue_kick(struct virtio* device, struct queue* queue) {
  lock_take(&queue->lock);
  u16 from = queue->notified, to = queue->next_available;
  if (from != to) {
    __atomic_store_n(&queue->available[1], to, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool wanted = (queue->used[0] & 1) == 0;
    if (virtio_has(device, F_EVENT_IDX)) {
      u16 event = queue->used[2 + 4 * queue->size];
      wanted = (u16)(to - event - 1) < (u16)(to - from);
    }
    queue->notified = to;
    if (wanted) MMIO16(queue->notify) = queue->index;
  }
  lock_drop(&queue->lock);
}

u32 queue_poll(struct virtio* device, struct queue* queue) {
  u32 finished = 0;
  lock_take(&queue->lock);
  while (__atomic_load_n(&queue->used[1], __ATOMIC_ACQUIRE) != queue->next_used) {
    volatile u32* element = (volatile u32*)(queue->used + 2) + 2 * (queue->next_used % queue->size);
    u32 head = element[0];
    struct slot* slot = head < queue->size ? queue->owner[head] : NULL;
    if (slot == NULL) fail("used ring names chain %u, which is not under way", (u64)head);
    queue->owner[head] = NULL;
    u16 last = (u16)head;
    for (u16 i = 1; i < slot->chain; i++)
      last = queue->descriptors[last].next;
    queue->descriptors[last].next = queue->free_head;
    queue->free_head = (u16)head;
    queue->free_count = (u16)(queue->free_count + slot->chain);
    queue->next_used++;
    slot->used_length = element[1];
    __atomic_store_n(&slot->done, true, __ATOMIC_RELEASE);
    finished++;
  }
  if (virtio_has(device, F_EVENT_IDX)) {
    // Interrupts wanted: from the next chain on. Unwanted: an index that was passed just now.
    queue->available[2 + queue->size] =
        queue->vector != NO_VECTOR ? queue->next_used : (u16)(queue->next_used - 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
  }
  lock_drop(&queue->lock);
  return finished;
}

void queue_wait(struct virtio* device, struct queue* queue) {
  (void)device;
  if (queue->vector == NO_VECTOR || queue->shared) {
    pause();
    return;
  }
  // Interrupts are off at CPL 3, so one that came since the last poll is pending and ends the wait
  // at once.
  if (__atomic_load_n(&queue->used[1], __ATOMIC_ACQUIRE) == queue->next_used) trap(TRAP_WAIT);
}
