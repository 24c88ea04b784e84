// virtio 1.x over PCI, split rings, polled (or by MSI-X, see queue_wait). A chain is described by
// `pieces`; its slot is done when the device has put it on the used ring. Any CPU may poll a queue;
// slots are owned by whoever submitted them.
#pragma once

#include "pci.h"

enum { VIRTIO_VENDOR = 0x1AF4, VIRTIO_BLK = 0x1042, VIRTIO_RNG = 0x1044 };
enum { F_INDIRECT = 28, F_EVENT_IDX = 29, F_VERSION_1 = 32 };
enum { MAX_PIECES = 40, MAX_QUEUE = 1024, MAX_QUEUES = 64 };

struct descriptor {
  u64 address;
  u32 length;
  u16 flags, next;
};

struct piece {
  void* data;
  u32 length;
  bool device_writes;
};

struct slot {
  volatile bool done;
  u32 used_length;
  u16 chain;                 // descriptors taken, to give back
  struct descriptor* table;  // of MAX_PIECES, for an indirect chain
};

struct queue {
  struct lock lock;
  u16 index, size, vector;
  bool shared;  // by several CPUs: nobody may sleep on its interrupt
  volatile struct descriptor* descriptors;
  volatile u16* available;  // flags, index, ring[size], used_event
  volatile u16* used;       // flags, index, {u32 id, u32 length}[size], available_event
  u64 notify;
  u16 next_available, next_used, notified, free_head, free_count;
  struct slot* owner[MAX_QUEUE];
};

struct virtio {
  u8 slot;
  u64 common, isr, config, notify;
  u32 notify_multiplier, config_length;
  u64 features;  // agreed on
  u64 offered;
  bool interrupts;
};

// Finds the index-th device of this kind, resets it and agrees on `wanted` as far as it is offered.
bool virtio_open(struct virtio* device, u16 id, u32 index, u64 wanted);
bool virtio_has(const struct virtio* device, u32 feature);
void virtio_start(struct virtio* device);  // after its queues are made
// Largest size that the device offers, cut to `size`; cpu: whose APIC gets the interrupts.
void queue_open(struct virtio* device, struct queue* queue, u16 index, u16 size, u32 apic_id);

// Puts a chain on the available ring; false when there are not enough descriptors. Tells the device
// only at queue_kick.
bool queue_submit(struct virtio* device, struct queue* queue, struct slot* slot,
                  const struct piece* pieces, u32 count, bool indirect);
void queue_kick(struct virtio* device, struct queue* queue);
// Takes finished chains off the used ring; their number.
u32 queue_poll(struct virtio* device, struct queue* queue);
// Returns when something may have finished: after an interrupt, or at once where interrupts are
// off.
void queue_wait(struct virtio* device, struct queue* queue);
