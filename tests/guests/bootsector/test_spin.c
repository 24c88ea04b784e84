// spin-writes, verify-spin: for tests that kill the VM. Round n writes `batch` blocks of 4 KiB,
// flushes, then prints "flushed n"; after the kill, `verify-spin rounds=n` checks that each block
// holds the last of rounds 1 to n that wrote it, or a later one.
#include "tests.h"

enum { BLOCK = 4096, BLOCK_SECTORS = BLOCK / SECTOR };

struct spin {
  const char* id;
  u64 first, blocks, batch, seed;
  u64 round, position;
};

static struct disk disk;

// The i-th block of a round; with an odd step and a power of two of blocks, those of one round are
// all different.
static u64 block_of(const struct spin* s, u64 round, u64 i) {
  u64 h = mix(s->seed ^ mix(round));
  return (h + i * (h >> 32 | 1)) & (s->blocks - 1);
}

static enum next next(struct request* r, void* context) {
  struct spin* s = context;
  if (s->position == s->batch) return NEXT_END;
  r->header.type = BLK_WRITE;
  r->header.sector = s->first + block_of(s, s->round, s->position++) * BLOCK_SECTORS;
  r->bytes = BLOCK;
  for (u64 i = 0; i < BLOCK_SECTORS; i++)
    sector_fill(r->data + i * SECTOR, s->id, r->header.sector + i, s->round);
  return NEXT_REQUEST;
}

static void finished(struct request* r, void* context) {
  (void)context;
  if (*r->status_at != STATUS_OK)
    fail("write at sector %u ends with status %u", r->header.sector, (u64)*r->status_at);
}

static struct spin start(void) {
  test_disk(&disk, 1);
  struct spin s = {.id = test_id(&disk),
                   .blocks = param_number("blocks", 1024),
                   .batch = param_number("batch", 64),
                   .seed = param_number("seed", 1)};
  u64 count;
  test_range(&disk, s.blocks * BLOCK, &s.first, &count);
  if ((s.blocks & (s.blocks - 1)) != 0 || s.batch > s.blocks)
    fail("blocks must be a power of two, and not below batch");
  if (count < s.blocks * BLOCK_SECTORS) fail("%u blocks do not fit the range", s.blocks);
  return s;
}

void test_spin_writes(void) {
  struct spin s = start();
  u64 from = param_number("from", 0), rounds = param_number("rounds", ~0ull >> 1);
  struct pipeline pipeline = {.depth = (u32)param_number("depth", 16),
                              .max_bytes = BLOCK,
                              .next = next,
                              .finished = finished};
  params_check_used();
  if (!virtio_has(&disk.virtio, BLK_F_FLUSH)) fail("the disk has no flush");
  for (s.round = from + 1; s.round <= from + rounds; s.round++) {
    s.position = 0;
    pipeline_run(&pipeline, &disk, 0, &s);
    disk_flush(&disk, 0);
    say("flushed %u", s.round);
  }
}

void test_verify_spin(void) {
  struct spin s = start();
  u64 rounds = param_number("rounds", 0), later = 0, checked = 0;
  u32* last = memory_allocate(s.blocks * sizeof last[0], 8);
  for (u64 round = 1; round <= rounds; round++) {
    for (u64 i = 0; i < s.batch; i++)
      last[block_of(&s, round, i)] = (u32)round;
  }
  struct request* r = memory_allocate(sizeof *r, 16);
  request_make(r, BLOCK);
  for (u64 block = 0; block < s.blocks; block++) {
    r->header.type = BLK_READ;
    r->header.sector = s.first + block * BLOCK_SECTORS;
    r->bytes = BLOCK;
    if (disk_do(&disk, 0, r) != STATUS_OK) fail("cannot read sector %u", r->header.sector);
    for (u64 i = 0; i < BLOCK_SECTORS && last[block] != 0; i++) {
      u64 round, sector = r->header.sector + i;
      if (!sector_is_ours(r->data + i * SECTOR, s.id, sector, &round))
        fail("sector %u is not ours", sector);
      if (round < last[block])
        fail("sector %u holds round %u, but round %u was flushed", sector, round, (u64)last[block]);
      if (round > last[block]) later++;
      checked++;
    }
  }
  say("spin verified rounds %u sectors %u later %u", rounds, checked, later);
}
