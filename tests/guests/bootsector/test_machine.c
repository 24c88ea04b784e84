// Tests of the machine around the disk: what is there, all of RAM, the ways to reset, the console's
// input, the random device.
#include "tests.h"

void test_disk(struct disk* disk, u32 cpus) {
  u64 index = param_number("disk", 0);
  if (!disk_open(disk, (u32)index, cpus)) fail("no virtio-blk disk %u", index);
}

const char* test_id(const struct disk* disk) {
  return param_text("id", disk->id[0] != 0 ? disk->id : "guest");
}

void test_range(const struct disk* disk, u64 default_bytes, u64* first, u64* count) {
  *first = param_number("start", MIB) / SECTOR;
  if (*first >= disk->capacity) fail("start is behind the disk's end (%u sectors)", disk->capacity);
  *count = param_number("range", min(default_bytes, (disk->capacity - *first) * SECTOR)) / SECTOR;
  if (*count == 0 || *count > disk->capacity - *first)
    fail("range leaves the disk (%u sectors)", disk->capacity);
}

static void report_for_duty(u32 cpu, void* context) {
  (void)context;
  say("cpu %u apic id %u", (u64)cpu, (u64)cpu_apic_id());
}

void test_smoke(const struct bios_report* bios) {
  if (bios != NULL) {
    say("bios drive %x extensions %u base %u KiB", (u64)bios->drive, (u64)bios->extensions,
        (u64)bios->base_kib);
    say("bios geometry %u/%u/%u capacity %u reads %s", (u64)bios->cylinders, (u64)bios->heads,
        (u64)bios->sectors, bios->capacity, bios->reads_agree ? "agree" : "differ");
  }
  u32 entries;
  const struct memmap_entry* map = memory_map_entries(&entries);
  for (u32 i = 0; i < entries; i++)
    say("memory %x size %x type %u", map[i].base, map[i].size, (u64)map[i].type);
  say("ram %u KiB", memory_ram_size() / KIB);

  u32 cpus = cpus_start((u32)param_number("cpus", MAX_CPUS));
  cpus_run(cpus, report_for_duty, NULL);
  say("cpus %u by %s", (u64)cpus, acpi_cpu_source());

  static struct disk disk;
  for (u32 i = 0; disk_open(&disk, i, cpus); i++) {
    say("disk %u sectors %u queues %u features %x id %s", (u64)i, disk.capacity,
        (u64)disk.queue_count, disk.virtio.features, disk.id[0] != 0 ? disk.id : "none");
  }
}

// Every 2 MiB of usable RAM above the guest holds its own address, then shows it.
void test_memory(void) {
  u32 entries;
  const struct memmap_entry* map = memory_map_entries(&entries);
  u64 pages = 0;
  for (u32 pass = 0; pass < 2; pass++) {
    for (u32 i = 0; i < entries; i++) {
      u64 from = round_up(map[i].base < 4 * MIB ? 4 * MIB : map[i].base, 4096),
          to = map[i].base + map[i].size;
      if (map[i].type != MEMORY_RAM) continue;
      for (u64 at = from; at + 4096 <= to;
           at = min(at + 2 * MIB, at + 4096 < to - 4096 ? to - 4096 : to)) {
        volatile u64* word = memory_map(at, 4096);
        if (pass == 0) {
          word[0] = mix(at);
          word[511] = ~at;
          pages++;
        } else if (word[0] != mix(at) || word[511] != ~at) {
          fail("memory at %x does not hold what was written", at);
        }
      }
    }
  }
  say("memory ok %u places in %u KiB", pages, memory_ram_size() / KIB);
}

void test_reset(void) {
  const char* by = param_text("by", "cf9");
  say("reset by %s", by);
  if (equal(by, "cf9")) {
    out8(0xCF9, 0x02);
    out8(0xCF9, 0x06);
  } else if (equal(by, "kbd")) {
    out8(0x64, 0xFE);
  } else if (equal(by, "port92")) {
    out8(0x92, 0);
    out8(0x92, 1);
  } else if (equal(by, "triple")) {
    trap(TRAP_TRIPLE_FAULT);
  } else {
    fail("no reset is called %s", by);
  }
  for (u64 start = rdtsc(); rdtsc() - start < 4000000000;)
    pause();
  fail("still here after a reset");
}

void test_panic(void) {
  say("pvpanic events %x", (u64)in8(0x505));
  out8(0x505, 1);
}

void test_idle(void) {
  say("idle");
  trap(TRAP_PARK);
}

// Lines typed on COM1 come back, until one is "quit".
void test_echo(void) {
  char line[80];
  for (;;) {
    u32 n = 0;
    for (;;) {
      while ((in8(0x3F8 + 5) & 1) == 0)
        pause();
      char c = (char)in8(0x3F8);
      if (c == '\r' || c == '\n') break;
      if (n < sizeof line - 1) line[n++] = c;
    }
    line[n] = 0;
    say("echo %s", line);
    if (equal(line, "quit")) return;
  }
}

void test_rng(void) {
  static struct virtio device;
  static struct queue queue;
  if (!virtio_open(&device, VIRTIO_RNG, 0, 0)) fail("no virtio-rng");
  queue_open(&device, &queue, 0, 64, 0);
  virtio_start(&device);
  u8* data = memory_allocate(64, 64);
  u64 hash = 0, got = 0;
  while (got < 64) {
    struct slot slot = {0};
    const struct piece piece = {data, 64, true};
    queue_submit(&device, &queue, &slot, &piece, 1, false);
    queue_kick(&device, &queue);
    while (queue_poll(&device, &queue) == 0)
      pause();
    if (slot.used_length == 0 || slot.used_length > 64)
      fail("virtio-rng returns %u bytes", (u64)slot.used_length);
    for (u32 i = 0; i < slot.used_length; i++)
      hash = mix(hash ^ data[i]);
    got += slot.used_length;
  }
  say("rng %x", hash);
}

// Prints the disk's capacity, and again each time that it changes, `count` times.
void test_size_watch(void) {
  static struct disk disk;
  test_disk(&disk, 1);
  u64 known = disk.capacity;
  say("size %u", known);
  for (u64 left = param_number("count", 1); left > 0;) {
    u64 now = disk_capacity(&disk);
    if (now == known) {
      for (int i = 0; i < 1000; i++)
        pause();
      continue;
    }
    known = now;
    left--;
    say("size %u", known);
  }
}
