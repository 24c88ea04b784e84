// bench: how long `count` random requests take, with `depth` of them under way on each CPU.
#include "tests.h"

struct bench {
  u64 first, blocks, left, random;
  u32 type, bytes;
  struct pipeline pipeline;
};

static struct disk disk;
static struct bench benches[MAX_CPUS];

static enum next next(struct request* r, void* context) {
  struct bench* b = context;
  if (b->left == 0) return NEXT_END;
  b->left--;
  r->header.type = b->type;
  r->header.sector = b->first + random_below(&b->random, b->blocks) * (b->bytes / SECTOR);
  r->bytes = b->bytes;
  return NEXT_REQUEST;
}

static void finished(struct request* r, void* context) {
  (void)context;
  if (*r->status_at != STATUS_OK)
    fail("request at sector %u ends with status %u", r->header.sector, (u64)*r->status_at);
}

static void work(u32 cpu, void* context) {
  (void)context;
  pipeline_run(&benches[cpu].pipeline, &disk, disk_queue(&disk, cpu), &benches[cpu]);
}

void test_bench(void) {
  u64 count = param_number("count", 20000), depth = param_number("depth", 1),
      bytes = param_number("bs", 4096);
  const char* op = param_text("op", "read");
  u32 cpus = cpus_start((u32)param_number("cpus", 1));
  test_disk(&disk, cpus);
  u64 first, sectors;
  test_range(&disk, ~0ull, &first, &sectors);
  for (u32 i = 0; i < cpus; i++) {
    struct bench* b = &benches[i];
    *b = (struct bench){.first = first,
                        .blocks = sectors * SECTOR / bytes,
                        .left = count / cpus,
                        .random = mix(param_number("seed", 1) + i),
                        .type = equal(op, "write") ? BLK_WRITE : BLK_READ,
                        .bytes = (u32)bytes};
    b->pipeline = (struct pipeline){
        .depth = (u32)depth, .max_bytes = (u32)bytes, .next = next, .finished = finished};
    b->pipeline.requests = memory_allocate(depth * sizeof b->pipeline.requests[0], 64);
    for (u32 j = 0; j < depth; j++)
      request_make(&b->pipeline.requests[j], (u32)bytes);
    if (b->blocks == 0) fail("the range holds no block");
  }
  clock_microseconds(0);
  u64 start = rdtsc();
  cpus_run(cpus, work, NULL);
  u64 microseconds = clock_microseconds(rdtsc() - start);
  say("bench %s bs %u depth %u cpus %u requests %u microseconds %u", op, bytes, depth, (u64)cpus,
      count / cpus * cpus, microseconds);
}
