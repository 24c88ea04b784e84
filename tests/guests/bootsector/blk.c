#include "blk.h"

// Device configuration, 5.2.4
enum {
  CAPACITY = 0,
  SEG_MAX = 12,
  NUM_QUEUES = 34,
  MAX_DISCARD_SECTORS = 36,
  MAX_DISCARD_SEG = 40,
  DISCARD_ALIGNMENT = 44,
  MAX_WRITE_ZEROES_SECTORS = 48,
  MAX_WRITE_ZEROES_SEG = 52,
  CONFIG_GENERATION = 21
};
enum { FLAG_UNMAP = 1 };

u64 disk_capacity(const struct disk* disk) {
  const struct virtio* v = &disk->virtio;
  for (;;) {
    u8 before = MMIO8(v->common + CONFIG_GENERATION);
    u64 value = MMIO32(v->config + CAPACITY) | (u64)MMIO32(v->config + CAPACITY + 4) << 32;
    if (MMIO8(v->common + CONFIG_GENERATION) == before) return value;
  }
}

void request_make(struct request* request, u32 bytes) {
  memset(request, 0, sizeof *request);
  request->slot.table = memory_allocate(MAX_PIECES * sizeof(struct descriptor), 16);
  request->data =
      bytes != 0 ? memory_allocate(bytes + 1, 4096) : NULL;  // one more: STATUS_WITH_DATA
}

u32 disk_queue(const struct disk* disk, u32 cpu) {
  return cpu % disk->queue_count;
}

bool disk_open(struct disk* disk, u32 index, u32 cpus) {
  u64 wanted = 1ull << BLK_F_SIZE_MAX | 1ull << BLK_F_SEG_MAX | 1ull << BLK_F_GEOMETRY |
               1ull << BLK_F_RO | 1ull << BLK_F_BLK_SIZE | 1ull << BLK_F_TOPOLOGY |
               1ull << BLK_F_FLUSH | 1ull << BLK_F_CONFIG_WCE | 1ull << BLK_F_MQ |
               1ull << BLK_F_DISCARD | 1ull << BLK_F_WRITE_ZEROES;
  if (param_flag("indirect", true)) wanted |= 1ull << F_INDIRECT;
  if (param_flag("event-idx", true)) wanted |= 1ull << F_EVENT_IDX;
  memset(disk, 0, sizeof *disk);
  struct virtio* v = &disk->virtio;
  if (!virtio_open(v, VIRTIO_BLK, index, wanted)) return false;
  v->interrupts = param_flag("irq", pci_capability(v->slot, CAPABILITY_MSIX, 0) != 0);

  disk->capacity = disk_capacity(disk);
  disk->seg_max = virtio_has(v, BLK_F_SEG_MAX) ? MMIO32(v->config + SEG_MAX) : 1;
  u32 offered = virtio_has(v, BLK_F_MQ) ? MMIO16(v->config + NUM_QUEUES) : 1;
  disk->queue_count =
      (u32)min(min(min(offered, param_number("queues", MAX_QUEUES)), cpus), MAX_QUEUES);
  if (virtio_has(v, BLK_F_DISCARD)) {
    disk->max_discard = MMIO32(v->config + MAX_DISCARD_SECTORS);
    disk->max_discard_ranges = MMIO32(v->config + MAX_DISCARD_SEG);
    disk->discard_alignment = MMIO32(v->config + DISCARD_ALIGNMENT);
  }
  if (virtio_has(v, BLK_F_WRITE_ZEROES)) {
    disk->max_zeroes = MMIO32(v->config + MAX_WRITE_ZEROES_SECTORS);
    disk->max_zeroes_ranges = MMIO32(v->config + MAX_WRITE_ZEROES_SEG);
  }
  disk->queues = memory_allocate(disk->queue_count * sizeof disk->queues[0], 64);
  u16 size = (u16)param_number("queue-size", 256);
  for (u32 i = 0; i < disk->queue_count; i++) {
    queue_open(v, &disk->queues[i], (u16)i, size, cpu_apic_id_of(i));
    disk->queues[i].shared = cpus > disk->queue_count;
  }
  virtio_start(v);

  struct request* request = memory_allocate(sizeof *request, 16);
  request_make(request, 20);
  request->header.type = BLK_GET_ID;
  request->bytes = 20;
  if (disk_do(disk, 0, request) == STATUS_OK) memcpy(disk->id, request->data, 20);
  return true;
}

static bool reads(u32 type) {
  return type == BLK_READ || type == BLK_GET_ID;
}

bool disk_submit(struct disk* disk, u32 queue, struct request* r, u32 segments, enum layout layout,
                 u64* random) {
  struct piece pieces[MAX_PIECES];
  u32 n = 0;
  if (disk->queues[queue].size < segments + 4) segments = 1;
  u8* header = (u8*)&r->header;
  if (layout == LAYOUT_SPLIT_HEADER) {
    pieces[n++] = (struct piece){header, 3, false};
    pieces[n++] = (struct piece){header + 3, 13, false};
  } else {
    pieces[n++] = (struct piece){header, 16, false};
  }
  bool ranges = r->header.type == BLK_DISCARD || r->header.type == BLK_WRITE_ZEROES;
  u8* data = ranges ? (u8*)r->ranges : r->data;
  u32 left = ranges ? r->range_count * 16 : r->bytes;
  bool device_writes = reads(r->header.type);
  for (u32 i = segments; left > 0; i--) {
    // The last piece takes what is left; the others end anywhere, not only between sectors.
    u32 length =
        i <= 1 || left == 1 || random == NULL ? left : 1 + (u32)random_below(random, left - 1);
    pieces[n++] = (struct piece){data, length, device_writes};
    data += length;
    left -= length;
  }
  volatile u8* status = &r->status;
  if (layout == LAYOUT_STATUS_WITH_DATA && device_writes && !ranges && r->bytes > 0) {
    status = r->data + r->bytes;
    pieces[n - 1].length++;
  } else {
    pieces[n++] = (struct piece){(void*)&r->status, 1, true};
  }
  r->status_at = status;
  *status = STATUS_PENDING;
  return queue_submit(&disk->virtio, &disk->queues[queue], &r->slot, pieces, n,
                      random == NULL || (*random & 3) != 0);
}

u8 disk_do(struct disk* disk, u32 queue, struct request* request) {
  while (!disk_submit(disk, queue, request, 1, LAYOUT_PLAIN, NULL))
    queue_poll(&disk->virtio, &disk->queues[queue]);
  queue_kick(&disk->virtio, &disk->queues[queue]);
  while (!__atomic_load_n(&request->slot.done, __ATOMIC_ACQUIRE)) {
    if (queue_poll(&disk->virtio, &disk->queues[queue]) == 0 && !request->slot.done) {
      queue_wait(&disk->virtio, &disk->queues[queue]);
    }
  }
  return *request->status_at;
}

void disk_flush(struct disk* disk, u32 queue) {
  struct request request;
  memset(&request, 0, sizeof request);
  request.header.type = BLK_FLUSH;
  u8 status = disk_do(disk, queue, &request);
  if (status != STATUS_OK) fail("flush ends with status %u", (u64)status);
}

void pipeline_run(struct pipeline* p, struct disk* disk, u32 queue, void* context) {
  enum { IDLE, READY, UNDER_WAY };  // of user[2], which is ours
  if (p->requests == NULL) {
    p->requests = memory_allocate(p->depth * sizeof p->requests[0], 64);
    for (u32 i = 0; i < p->depth; i++)
      request_make(&p->requests[i], p->max_bytes);
  }
  u32 open = 0;  // READY or UNDER_WAY
  for (bool ended = false; !ended || open > 0;) {
    bool later = false;
    for (u32 i = 0; i < p->depth; i++) {
      struct request* r = &p->requests[i];
      if (r->user[2] == IDLE && !ended && !later) {
        enum next next = p->next(r, context);
        ended = next == NEXT_END;
        later = next == NEXT_LATER;
        if (next == NEXT_REQUEST) {
          r->user[2] = READY;
          open++;
        }
      }
      if (r->user[2] != READY) continue;
      u32 segments = 1;
      enum layout layout = LAYOUT_PLAIN;
      if (p->random != NULL) {
        segments = 1 + (u32)random_below(p->random, min(disk->seg_max, 8));
        layout = (enum layout)random_below(p->random, LAYOUTS);
      }
      if (!disk_submit(disk, queue, r, segments, layout, p->random)) break;
      r->user[2] = UNDER_WAY;
    }
    queue_kick(&disk->virtio, &disk->queues[queue]);
    queue_poll(&disk->virtio, &disk->queues[queue]);
    u32 finished = 0;
    for (u32 i = 0; i < p->depth; i++) {
      struct request* r = &p->requests[i];
      if (r->user[2] != UNDER_WAY || !__atomic_load_n(&r->slot.done, __ATOMIC_ACQUIRE)) continue;
      r->user[2] = IDLE;
      finished++;
      p->finished(r, context);
    }
    open -= finished;
    if (finished == 0 && open > 0) queue_wait(&disk->virtio, &disk->queues[queue]);
  }
}
