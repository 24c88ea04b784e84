// RAM by the loader's memory map, and an allocator that only goes up. Addresses are physical: the
// first 4 GiB are mapped one to one by start.S; what lies above is mapped on demand, 1 GiB of 2 MiB
// pages at a time. The page tables are ours to write: CPL 3 may.
#include "guest.h"

enum { MAX_DIRECTORIES = 32 };

extern u64 pdpt[512];
extern char image_end[];

static u8 new_directories[MAX_DIRECTORIES][4096] __attribute__((aligned(4096)));
static u32 directories_used;
static struct memmap_entry entries[MEMMAP_MAX];
static u32 entry_count;
static u64 next, limit;

void* memory_map(u64 address, u64 size) {
  if (size == 0) return (void*)address;
  for (u64 gib = address >> 30; gib <= (address + size - 1) >> 30; gib++) {
    if (gib >= 512) fail("address %x is beyond what this guest can map", address);
    if (pdpt[gib] != 0) continue;
    if (directories_used == MAX_DIRECTORIES) fail("out of page tables for address %x", address);
    u64* directory = (u64*)new_directories[directories_used++];
    for (u64 i = 0; i < 512; i++)
      directory[i] = (gib << 30) + (i << 21) + 0x87;
    __atomic_store_n(&pdpt[gib], (u64)directory + 7, __ATOMIC_SEQ_CST);
  }
  return (void*)address;
}

void memory_open(const struct start_info* info) {
  entry_count = (u32)min(info->memmap_entries, MEMMAP_MAX);
  memcpy(entries, (const void*)info->memmap, entry_count * sizeof entries[0]);
  next = round_up((u64)image_end, 4096);
  // Loaders put what they hand over at both ends of the RAM that holds us: keep clear of it.
  for (u32 i = 0; i < entry_count; i++) {
    const struct memmap_entry* e = &entries[i];
    if (e->type != MEMORY_RAM || e->base > next || e->base + e->size <= next) continue;
    next = round_up(next, 4 * MIB);
    limit = min(e->base + e->size, 3072 * MIB);
  }
  if (limit <= next) fail("no RAM behind the guest's image in the memory map");
}

void* memory_allocate(u64 size, u64 alignment) {
  next = round_up(next, alignment);
  if (size > limit - next)
    fail("out of memory: %u KiB wanted, %u KiB left", size / KIB, (limit - next) / KIB);
  void* at = (void*)next;
  next += size;
  return memset(at, 0, size);
}

u64 memory_ram_size(void) {
  u64 sum = 0;
  for (u32 i = 0; i < entry_count; i++) {
    if (entries[i].type == MEMORY_RAM) sum += entries[i].size;
  }
  return sum;
}

const struct memmap_entry* memory_map_entries(u32* count) {
  *count = entry_count;
  return entries;
}
