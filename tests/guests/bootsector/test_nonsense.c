// nonsense: random values into every port, configuration register, BAR and ring that the guest can
// reach; the host must live. A seed repeats the run. Ports that end the VM by design are left out
// unless `all` asks for them.
#include "tests.h"

enum { MAX_BARS = 32 };

static struct { u64 address, size; } bars[MAX_BARS];
static u32 bar_count;
static u8 slots[64];
static u32 slot_count;

static void note(const struct pci_device* device, void* context) {
  (void)context;
  if (slot_count < sizeof slots) slots[slot_count++] = device->slot;
  if ((pci_read(device->slot, 0x0E, 1) & 0x7F) != 0) return;
  for (u32 index = 0; index < 6; index++) {
    u32 low = pci_read(device->slot, (u16)(0x10 + 4 * index), 4);
    u64 size, address = (low & 1) != 0 ? 0 : pci_bar(device->slot, index, &size);
    if (address != 0 && bar_count < MAX_BARS) {
      memory_map(address, size);
      bars[bar_count].address = address;
      bars[bar_count++].size = size;
    }
    if ((low & 7) == 4) index++;
  }
}

// Numbers that find mistakes: small, huge, around powers of two, or anything.
static u64 odd_number(u64* random) {
  u64 value = random_next(random);
  switch (random_below(random, 6)) {
    case 0:
      return value & 0xF;
    case 1:
      return 0 - (value & 0xF);
    case 2:
      return (1ull << (value & 63)) - (value >> 63);
    case 3:
      return value & 0xFFFF;
    case 4:
      return 16 * MIB + (value & 0xFFFFF);
    default:
      return value;
  }
}

static bool ends_vm(u16 port, u32 width) {
  u16 last = (u16)(port + width - 1);
  if (port <= DEBUG_EXIT_PORT + 3 && last >= DEBUG_EXIT_PORT) return true;
  if (port <= 0x64 && last >= 0x64) return true;    // i8042 command: reset
  if (port <= 0x92 && last >= 0x92) return true;    // fast reset
  if (port <= 0xCF9 && last >= 0xCF9) return true;  // reset control
  if (port <= 0x505 && last >= 0x505) return true;  // pvpanic
  return port >= 0x600 && port < 0xC00;             // ACPI PM and reset registers
}

static u64 memory_access(u64 address, u32 width, bool write, u64 value) {
  switch (width) {
    case 1:
      if (write) MMIO8(address) = (u8)value;
      return write ? 0 : MMIO8(address);
    case 2:
      if (write) MMIO16(address) = (u16)value;
      return write ? 0 : MMIO16(address);
    case 4:
      if (write) MMIO32(address) = (u32)value;
      return write ? 0 : MMIO32(address);
    default:
      if (write) MMIO64(address) = value;
      return write ? 0 : MMIO64(address);
  }
}

static void poke_port(u64* random, bool all) {
  static const u16 known[] = {0x20,  0x40,  0x60,  0x70,  0x80,  0x92,  0xA0, 0xE9,
                              0x2F8, 0x3F8, 0x3E8, 0x4D0, 0x505, 0xCF8, 0xCFC};
  u16 port = (u16)random_next(random);
  if (random_below(random, 2) == 0)
    port = (u16)(known[random_below(random, sizeof known / 2)] + random_below(random, 8));
  u32 width = 1u << random_below(random, 3);
  if (ends_vm(port, width) && !all) return;
  u32 value = (u32)odd_number(random);
  if (random_below(random, 3) == 0) {
    width == 1 ? in8(port) : width == 2 ? in16(port) : in32(port);
  } else if (width == 1) {
    out8(port, (u8)value);
  } else if (width == 2) {
    out16(port, (u16)value);
  } else {
    out32(port, value);
  }
}

static void poke_bar(u64* random) {
  if (bar_count == 0) return;
  u64 i = random_below(random, bar_count);
  u32 width = 1u << random_below(random, 4);
  u64 offset =
      random_below(random, random_below(random, 2) == 0 ? min(bars[i].size, 64) : bars[i].size);
  if (offset + width > bars[i].size) offset = bars[i].size - width;
  if (random_below(random, 4) != 0) offset &= ~(u64)(width - 1);
  memory_access(bars[i].address + offset, width, random_below(random, 3) != 0, odd_number(random));
}

// Configuration space but for the BARs and the memory decoding bit, most of the time: a device that
// is gone is easy to be safe from.
static void poke_config(u64* random) {
  u8 slot = random_below(random, 4) == 0 ? (u8)random_next(random)
                                         : slots[random_below(random, slot_count)];
  u16 offset = (u16)random_below(random, 256);
  u32 width = 1u << random_below(random, 3);
  bool vital = (offset >= 2 && offset < 6) || (offset >= 0x0C && offset < 0x28);
  if (random_below(random, 2) == 0 || (vital && random_below(random, 16) != 0)) {
    pci_read(slot, offset, width);
  } else {
    pci_write(slot, offset, width, (u32)odd_number(random));
  }
}

// A device that was set up properly, then rings full of rubbish.
static void poke_rings(u64* random, struct disk* disk, u8* rubbish, u64 rubbish_size) {
  struct queue* q = &disk->queues[0];
  for (u32 i = 0; i < 16; i++) {
    volatile struct descriptor* d = &q->descriptors[random_below(random, q->size)];
    d->address = random_below(random, 2) == 0 ? (u64)rubbish + random_below(random, rubbish_size)
                                              : odd_number(random);
    d->length =
        random_below(random, 2) == 0 ? (u32)random_below(random, 4096) : (u32)odd_number(random);
    d->flags = (u16)(random_below(random, 4) == 0 ? random_next(random) : random_below(random, 8));
    d->next =
        (u16)(random_below(random, 4) == 0 ? random_next(random) : random_below(random, q->size));
  }
  for (u32 i = 0; i < 256; i++)
    rubbish[random_below(random, rubbish_size)] = (u8)odd_number(random);
  for (u64 at = 0; at < rubbish_size; at += 64) {
    // What may be taken for a request's header, or for an indirect table.
    u32* header = (u32*)(rubbish + at);
    header[0] = (u32)random_below(random, 16);
    header[2] = (u32)odd_number(random);
    header[3] = random_below(random, 2) == 0 ? 0 : (u32)odd_number(random);
  }
  for (u32 i = 0; i < 4; i++) {
    q->available[2 + random_below(random, q->size)] =
        (u16)(random_below(random, 8) == 0 ? random_next(random) : random_below(random, q->size));
  }
  u64 step = random_below(random, 16) == 0 ? random_next(random) : random_below(random, 5);
  __atomic_store_n(&q->available[1], (u16)(q->available[1] + step), __ATOMIC_SEQ_CST);
  MMIO16(q->notify) = (u16)(random_below(random, 16) == 0 ? random_next(random) : 0);
}

void test_nonsense(void) {
  u64 seed = param_number("seed", 1), count = param_number("count", 2000), random = mix(seed);
  bool all = param_flag("all", false);
  const char* what = param_text("what", "all");
  u64 rubbish_size = 64 * KIB;
  u8* rubbish = memory_allocate(rubbish_size, 4096);
  bool any = equal(what, "all");
  bool rings = any || equal(what, "rings"), ports = any || equal(what, "ports");
  bool config = any || equal(what, "config"), bar = any || equal(what, "bars");
  pci_each(note, NULL);
  static struct disk disk;
  bool have_disk = false;
  params_check_used();
  say("nonsense seed %u devices %u bars %u", seed, (u64)slot_count, (u64)bar_count);

  // Rings first and again after each reset, while the device still listens.
  for (u64 i = 0; i < count; i++) {
    if (rings) {
      if (i % 16 == 0) have_disk = disk_open(&disk, 0, 1);
      if (have_disk) poke_rings(&random, &disk, rubbish, rubbish_size);
    }
    // The last quarter only: after this nothing can be expected to work.
    if (i < count / 4 * 3 && any) continue;
    if (ports) poke_port(&random, all);
    if (config && slot_count > 0) poke_config(&random);
    if (bar) poke_bar(&random);
    if (any && i >= count / 4 * 3) rings = false;
  }
  console_open();
  say("nonsense survived %u", count);
}
