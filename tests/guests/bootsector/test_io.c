// io: many requests of all kinds, several at once, on every CPU, held against a model of what each
// sector must contain.
//
// Each CPU has a part of the range to itself. It fills it, reads it back, then mixes writes, reads,
// write-zeroes, discards and flushes at random places that no other request under way touches, and
// reads everything again. Requests that must fail come last.
#include "tests.h"

enum { MAX_SECTORS = 128, UNKNOWN = 0, ZERO = 1, FIRST_ROUND = 2 };
static const u32 kMaybeZero = 1u << 31;  // discarded: zeros, or what was there

enum phase { FILL, VERIFY, MIX };

struct worker {
  struct disk* disk;
  u32 queue;
  const char* id;
  u64 first, count;  // sectors
  u32* state;        // of each sector: UNKNOWN, ZERO or the round that wrote it
  bool* busy;
  enum phase phase;
  u64 position, left;
  u32 round;
  u64 random;
  struct pipeline pipeline;
  u64 done[16];  // by request type
};

static struct disk disk;
static struct worker workers[MAX_CPUS];

static void check(const struct worker* w, const struct request* r) {
  for (u64 i = 0; i < r->bytes / SECTOR; i++) {
    u64 sector = r->header.sector + i, round = 0;
    u32 state = w->state[sector - w->first];
    const u8* data = r->data + i * SECTOR;
    u32 expected = state & ~kMaybeZero;
    if (expected == UNKNOWN) continue;
    if ((expected == ZERO || (state & kMaybeZero) != 0) && sector_is_zero(data)) continue;
    if (expected >= FIRST_ROUND && sector_is_ours(data, w->id, sector, &round) && round == expected)
      continue;
    fail("sector %u: expected %s%u, read %s (round %u)", sector,
         expected == ZERO ? "zeros " : "round ", (u64)expected,
         sector_is_zero(data) ? "zeros" : "something else", round);
  }
}

static bool claim(struct worker* w, u64 first, u64 count) {
  for (u64 i = 0; i < count; i++) {
    if (w->busy[first - w->first + i]) return false;
  }
  memset(&w->busy[first - w->first], true, count);
  return true;
}

static void prepare(struct worker* w, struct request* r, u32 type, u64 sector, u64 count) {
  r->header.type = type;
  r->header.sector = type == BLK_READ || type == BLK_WRITE ? sector : 0;
  r->bytes = 0;
  r->range_count = 0;
  r->user[0] = sector;
  r->user[1] = count;
  if (type == BLK_READ || type == BLK_WRITE) r->bytes = (u32)count * SECTOR;
  if (type == BLK_WRITE) {
    for (u64 i = 0; i < count; i++)
      sector_fill(r->data + i * SECTOR, w->id, sector + i, w->round);
    for (u64 i = 0; i < count; i++)
      w->state[sector - w->first + i] = w->round;
    w->round++;
  }
  if (type == BLK_READ) memset(r->data, 0xA5, r->bytes);
  if (type == BLK_DISCARD || type == BLK_WRITE_ZEROES) {
    u32 max_ranges = type == BLK_DISCARD ? w->disk->max_discard_ranges : w->disk->max_zeroes_ranges;
    // Two ranges where the device takes several: both halves.
    u64 half = max_ranges > 1 && count > 1 ? count / 2 : 0;
    if (half != 0) {
      r->ranges[r->range_count].sector = sector;
      r->ranges[r->range_count].flags = 0;
      r->ranges[r->range_count++].count = (u32)half;
    }
    r->ranges[r->range_count].sector = sector + half;
    r->ranges[r->range_count].flags =
        type == BLK_WRITE_ZEROES ? (u32)random_below(&w->random, 2) : 0;
    r->ranges[r->range_count++].count = (u32)(count - half);
  }
}

static enum next next_sequential(struct worker* w, struct request* r) {
  if (w->position == w->count) return NEXT_END;
  u64 count = min(1 + random_below(&w->random, MAX_SECTORS), w->count - w->position);
  prepare(w, r, w->phase == FILL ? BLK_WRITE : BLK_READ, w->first + w->position, count);
  w->position += count;
  claim(w, r->user[0], count);
  return NEXT_REQUEST;
}

static enum next next_mixed(struct worker* w, struct request* r) {
  if (w->left == 0) return NEXT_END;
  u64 dice = random_below(&w->random, 100);
  u32 type = dice < 45   ? BLK_WRITE
             : dice < 88 ? BLK_READ
             : dice < 93 ? BLK_WRITE_ZEROES
             : dice < 97 ? BLK_DISCARD
                         : BLK_FLUSH;
  u64 longest = MAX_SECTORS;
  const struct virtio* v = &w->disk->virtio;
  if (type == BLK_WRITE_ZEROES) {
    if (!virtio_has(v, BLK_F_WRITE_ZEROES)) type = BLK_READ;
    longest = min(4 * MAX_SECTORS, w->disk->max_zeroes);
  }
  if (type == BLK_DISCARD) {
    if (!virtio_has(v, BLK_F_DISCARD)) type = BLK_READ;
    longest = min(4 * MAX_SECTORS, w->disk->max_discard);
  }
  if (type == BLK_FLUSH && !virtio_has(v, BLK_F_FLUSH)) type = BLK_READ;
  if (type == BLK_READ || type == BLK_WRITE) longest = MAX_SECTORS;
  if (type == BLK_FLUSH) {
    prepare(w, r, type, 0, 0);
    w->left--;
    return NEXT_REQUEST;
  }
  for (u32 attempt = 0; attempt < 16; attempt++) {
    u64 count = 1 + random_below(&w->random, min(longest, w->count));
    u64 sector = w->first + random_below(&w->random, w->count - count + 1);
    if (!claim(w, sector, count)) continue;
    prepare(w, r, type, sector, count);
    w->left--;
    return NEXT_REQUEST;
  }
  return NEXT_LATER;
}

static enum next next(struct request* r, void* context) {
  struct worker* w = context;
  return w->phase == MIX ? next_mixed(w, r) : next_sequential(w, r);
}

static void finished(struct request* r, void* context) {
  struct worker* w = context;
  if (*r->status_at != STATUS_OK) {
    fail("request type %u at sector %u ends with status %u", (u64)r->header.type, r->user[0],
         (u64)*r->status_at);
  }
  u32 written = r->header.type == BLK_READ ? r->bytes + 1 : 1;
  if (r->slot.used_length != written) {
    fail("request type %u: used length %u, %u bytes were to be written", (u64)r->header.type,
         (u64)r->slot.used_length, (u64)written);
  }
  u64 at = r->user[0] - w->first, count = r->user[1];
  if (r->header.type == BLK_READ) check(w, r);
  for (u64 i = 0; i < count; i++) {
    if (r->header.type == BLK_WRITE_ZEROES) w->state[at + i] = ZERO;
    if (r->header.type == BLK_DISCARD && w->state[at + i] != UNKNOWN)
      w->state[at + i] |= kMaybeZero;
  }
  if (count > 0) memset(&w->busy[at], false, count);
  w->done[r->header.type]++;
}

static void run_phase(struct worker* w, enum phase phase) {
  w->phase = phase;
  w->position = 0;
  pipeline_run(&w->pipeline, w->disk, w->queue, w);
}

static void work(u32 cpu, void* context) {
  (void)context;
  struct worker* w = &workers[cpu];
  bool flush = virtio_has(&w->disk->virtio, BLK_F_FLUSH);
  run_phase(w, FILL);
  if (flush) disk_flush(w->disk, w->queue);
  run_phase(w, VERIFY);
  run_phase(w, MIX);
  if (flush) disk_flush(w->disk, w->queue);
  run_phase(w, VERIFY);
}

static void expect_failure(struct request* r, const char* what, u32 type, u64 sector, u32 bytes,
                           u8 wanted) {
  r->header.type = type;
  r->header.sector = sector;
  r->bytes = bytes;
  u8 status = disk_do(&disk, 0, r);
  if (status == STATUS_OK || (wanted != 0 && status != wanted))
    fail("%s ends with status %u", what, (u64)status);
}

static void must_fail(void) {
  struct request* r = memory_allocate(sizeof *r, 16);
  request_make(r, 64 * KIB);
  expect_failure(r, "read behind the end", BLK_READ, disk.capacity, SECTOR, STATUS_IOERR);
  expect_failure(r, "read across the end", BLK_READ, disk.capacity - 1, 2 * SECTOR, STATUS_IOERR);
  expect_failure(r, "read at a huge sector", BLK_READ, ~0ull - 1, 2 * SECTOR, STATUS_IOERR);
  expect_failure(r, "write across the end", BLK_WRITE, disk.capacity - 1, 2 * SECTOR, STATUS_IOERR);
  expect_failure(r, "read of half a sector", BLK_READ, workers[0].first, SECTOR / 2, 0);
  expect_failure(r, "unknown request", 0x1234, 0, SECTOR, STATUS_UNSUPPORTED);
  if (virtio_has(&disk.virtio, BLK_F_RO))
    expect_failure(r, "write to a read-only disk", BLK_WRITE, workers[0].first, SECTOR, 0);
  run_phase(&workers[0], VERIFY);
  say("io errors ok");
}

void test_io(void) {
  u64 seed = param_number("seed", 1), count = param_number("count", 1000);
  u32 depth = (u32)param_number("depth", 32);
  u32 cpus = cpus_start((u32)param_number("cpus", MAX_CPUS));
  test_disk(&disk, cpus);
  u64 first, sectors;
  test_range(&disk, 16 * MIB, &first, &sectors);
  if (virtio_has(&disk.virtio, BLK_F_RO)) fail("the disk is read-only");
  for (u32 i = 0; i < cpus; i++) {
    struct worker* w = &workers[i];
    u64 share = sectors / cpus;
    *w = (struct worker){.disk = &disk,
                         .queue = disk_queue(&disk, i),
                         .id = test_id(&disk),
                         .first = first + i * share,
                         .count = share,
                         .left = count / cpus,
                         .round = FIRST_ROUND,
                         .random = mix(seed + i)};
    w->state = memory_allocate(share * sizeof w->state[0], 64);
    w->busy = memory_allocate(share, 64);
    w->pipeline = (struct pipeline){.depth = depth,
                                    .max_bytes = MAX_SECTORS * SECTOR,
                                    .random = &w->random,
                                    .next = next,
                                    .finished = finished};
    w->pipeline.requests = memory_allocate(depth * sizeof w->pipeline.requests[0], 64);
    for (u32 j = 0; j < depth; j++)
      request_make(&w->pipeline.requests[j], MAX_SECTORS * SECTOR);
  }
  cpus_run(cpus, work, NULL);
  u64 done[16] = {0};
  for (u32 i = 0; i < cpus; i++) {
    for (u32 type = 0; type < 16; type++)
      done[type] += workers[i].done[type];
  }
  say("io ok cpus %u queues %u reads %u writes %u flushes %u discards %u zeroes %u", (u64)cpus,
      (u64)disk.queue_count, done[BLK_READ], done[BLK_WRITE], done[BLK_FLUSH], done[BLK_DISCARD],
      done[BLK_WRITE_ZEROES]);
  if (disk.virtio.interrupts) {
    u64 interrupts = 0;
    for (u32 i = 0x40; i < 0x40 + disk.queue_count; i++)
      interrupts += interrupt_counts[i];
    if (interrupts == 0 && !disk.queues[0].shared) fail("no interrupt came");
    say("interrupts %u", interrupts);
  }
  must_fail();
}
