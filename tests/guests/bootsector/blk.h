// virtio-blk: requests on the queues of one disk.
#pragma once

#include "virtio.h"

enum {
  BLK_F_SIZE_MAX = 1,
  BLK_F_SEG_MAX = 2,
  BLK_F_GEOMETRY = 4,
  BLK_F_RO = 5,
  BLK_F_BLK_SIZE = 6,
  BLK_F_FLUSH = 9,
  BLK_F_TOPOLOGY = 10,
  BLK_F_CONFIG_WCE = 11,
  BLK_F_MQ = 12,
  BLK_F_DISCARD = 13,
  BLK_F_WRITE_ZEROES = 14
};
enum {
  BLK_READ = 0,
  BLK_WRITE = 1,
  BLK_FLUSH = 4,
  BLK_GET_ID = 8,
  BLK_DISCARD = 11,
  BLK_WRITE_ZEROES = 13
};
enum { STATUS_OK = 0, STATUS_IOERR = 1, STATUS_UNSUPPORTED = 2, STATUS_PENDING = 0xFF };

// How a request's bytes are cut into descriptors; the device must not care (2.6.4).
enum layout { LAYOUT_PLAIN, LAYOUT_SPLIT_HEADER, LAYOUT_STATUS_WITH_DATA, LAYOUTS };

struct request {
  struct slot slot;
  struct {
    u32 type, reserved;
    u64 sector;
  } header;
  struct {
    u64 sector;
    u32 count, flags;
  } ranges[4];  // data of discard and write zeroes
  volatile u8 status;
  volatile u8* status_at;  // `status`, or the byte behind the data
  u8* data;
  u32 bytes;  // of data
  u32 range_count;
  u64 user[3];  // of whoever submits
};

struct disk {
  struct virtio virtio;
  u64 capacity;  // sectors
  u32 queue_count, seg_max;
  u32 max_discard, max_discard_ranges, discard_alignment, max_zeroes, max_zeroes_ranges;
  char id[21];
  struct queue* queues;
};

// Opens the index-th virtio-blk for this many CPUs, as the parameters (queues, queue-size, irq,
// indirect, event-idx) say. CPU n uses queue disk_queue(n); where there are fewer queues than CPUs,
// they share.
bool disk_open(struct disk* disk, u32 index, u32 cpus);
u32 disk_queue(const struct disk* disk, u32 cpu);
u64 disk_capacity(const struct disk* disk);  // as the device says now
// One with `bytes` of data buffer.
void request_make(struct request* request, u32 bytes);
// Cuts the data into `segments` pieces at places that *random picks (NULL: one piece). False when
// the queue is full.
bool disk_submit(struct disk* disk, u32 queue, struct request* request, u32 segments,
                 enum layout layout, u64* random);
// Submits and waits; the status byte.
u8 disk_do(struct disk* disk, u32 queue, struct request* request);
void disk_flush(struct disk* disk, u32 queue);

// Many requests under way at once. `next` fills in a request, or says that there is none now, or
// none any more; `finished` gets each back with its status.
enum next { NEXT_REQUEST, NEXT_LATER, NEXT_END };
struct pipeline {
  u32 depth, max_bytes;
  u64* random;  // NULL: plain chains; else chains cut at random
  enum next (*next)(struct request* request, void* context);
  void (*finished)(struct request* request, void* context);
  struct request* requests;  // made on first use, kept for the next run
};
void pipeline_run(struct pipeline* pipeline, struct disk* disk, u32 queue, void* context);
