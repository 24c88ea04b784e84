// write-own, verify-own: data that names its writer, so that several guests on one base can show
// that each keeps its own.
#include "tests.h"

enum { CHUNK = 64 * KIB };

struct job {
  const char* id;
  u64 first, count, position, round;
  u32 type;
};

static struct disk disk;

static enum next next(struct request* r, void* context) {
  struct job* job = context;
  u64 count = min(CHUNK / SECTOR, job->count - job->position);
  if (count == 0) return NEXT_END;
  r->header.type = job->type;
  r->header.sector = job->first + job->position;
  r->bytes = (u32)count * SECTOR;
  for (u64 i = 0; i < count && job->type == BLK_WRITE; i++) {
    sector_fill(r->data + i * SECTOR, job->id, r->header.sector + i, job->round);
  }
  job->position += count;
  return NEXT_REQUEST;
}

static void finished(struct request* r, void* context) {
  const struct job* job = context;
  if (*r->status_at != STATUS_OK)
    fail("request at sector %u ends with status %u", r->header.sector, (u64)*r->status_at);
  for (u64 i = 0; i < r->bytes / SECTOR && job->type == BLK_READ; i++) {
    u64 round;
    const u8* data = r->data + i * SECTOR;
    if (sector_is_ours(data, job->id, r->header.sector + i, &round) && round == job->round)
      continue;
    fail("sector %u does not hold round %u of %s", r->header.sector + i, job->round, job->id);
  }
}

static struct job start(u32 type) {
  test_disk(&disk, 1);
  struct job job = {.id = test_id(&disk), .round = param_number("round", 1), .type = type};
  test_range(&disk, 4 * MIB, &job.first, &job.count);
  return job;
}

static void run(struct job* job) {
  struct pipeline pipeline = {.depth = (u32)param_number("depth", 16),
                              .max_bytes = CHUNK,
                              .next = next,
                              .finished = finished};
  pipeline_run(&pipeline, &disk, 0, job);
}

// What an earlier guest left in the range's first sector.
static void show_found(const struct job* job) {
  struct request* r = memory_allocate(sizeof *r, 16);
  request_make(r, SECTOR);
  r->header.type = BLK_READ;
  r->header.sector = job->first;
  r->bytes = SECTOR;
  if (disk_do(&disk, 0, r) != STATUS_OK) fail("cannot read sector %u", job->first);
  char* text = (char*)r->data;
  text[SECTOR - 1] = 0;
  if (!starts_with(text, "calf-guest ")) return;
  for (char* s = text; *s != 0; s++) {
    if (*s == '\n') *s = 0;
  }
  say("found %s", text);
}

void test_write_own(void) {
  struct job job = start(BLK_WRITE);
  show_found(&job);
  run(&job);
  if (virtio_has(&disk.virtio, BLK_F_FLUSH)) disk_flush(&disk, 0);
  say("own written id %s round %u sectors %u from %u", job.id, job.round, job.count, job.first);
}

void test_verify_own(void) {
  struct job job = start(BLK_READ);
  run(&job);
  say("own verified id %s round %u sectors %u from %u", job.id, job.round, job.count, job.first);
}
