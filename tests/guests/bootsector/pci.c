#include "pci.h"

enum { CONFIG_ADDRESS_PORT = 0xCF8, CONFIG_DATA_PORT = 0xCFC };
enum { COMMAND = 4, HEADER_TYPE = 0x0E, BAR0 = 0x10, CAPABILITIES = 0x34, COMMAND_MEMORY = 2 };

static u64 ecam;
static struct lock ports_lock;

u32 pci_read(u8 slot, u16 offset, u32 width) {
  if (ecam != 0) {
    u64 at = ecam + ((u64)slot << 12) + offset;
    return width == 1 ? MMIO8(at) : width == 2 ? MMIO16(at) : MMIO32(at);
  }
  lock_take(&ports_lock);
  out32(CONFIG_ADDRESS_PORT, 1u << 31 | (u32)slot << 8 | (offset & 0xFC));
  u16 port = (u16)(CONFIG_DATA_PORT + (offset & 3));
  u32 value = width == 1 ? in8(port) : width == 2 ? in16(port) : in32(port);
  lock_drop(&ports_lock);
  return value;
}

void pci_write(u8 slot, u16 offset, u32 width, u32 value) {
  if (ecam != 0) {
    u64 at = ecam + ((u64)slot << 12) + offset;
    if (width == 1) {
      MMIO8(at) = (u8)value;
    } else if (width == 2) {
      MMIO16(at) = (u16)value;
    } else {
      MMIO32(at) = value;
    }
    return;
  }
  lock_take(&ports_lock);
  out32(CONFIG_ADDRESS_PORT, 1u << 31 | (u32)slot << 8 | (offset & 0xFC));
  u16 port = (u16)(CONFIG_DATA_PORT + (offset & 3));
  if (width == 1) {
    out8(port, (u8)value);
  } else if (width == 2) {
    out16(port, (u16)value);
  } else {
    out32(port, value);
  }
  lock_drop(&ports_lock);
}

void pci_open(void) {
  bool wanted = equal(param_text("pci", "ports"), "ecam");
  if (!wanted && pci_read(0, 0, 4) != 0xFFFFFFFF) return;
  ecam = acpi_ecam();
  if (ecam != 0) memory_map(ecam, MIB);
  if (wanted && ecam == 0) fail("no MCFG table: no ECAM");
}

void pci_each(void (*visit)(const struct pci_device*, void*), void* context) {
  for (u32 device = 0; device < 32; device++) {
    u32 functions = 1;
    for (u32 function = 0; function < functions; function++) {
      u8 slot = (u8)(device << 3 | function);
      u32 ids = pci_read(slot, 0, 4);
      if (ids == 0xFFFFFFFF || ids == 0) continue;
      if (function == 0 && (pci_read(slot, HEADER_TYPE, 1) & 0x80) != 0) functions = 8;
      struct pci_device found = {slot, (u16)ids, (u16)(ids >> 16)};
      visit(&found, context);
    }
  }
}

struct search {
  u16 vendor, id;
  u32 left;
  struct pci_device* found;
  bool done;
};

static void compare(const struct pci_device* device, void* context) {
  struct search* s = context;
  if (s->done || device->vendor != s->vendor || device->id != s->id) return;
  if (s->left-- > 0) return;
  *s->found = *device;
  s->done = true;
}

bool pci_find(u16 vendor, u16 id, u32 index, struct pci_device* found) {
  struct search s = {vendor, id, index, found, false};
  pci_each(compare, &s);
  return s.done;
}

u8 pci_capability(u8 slot, u8 id, u8 after) {
  u8 at = after == 0 ? (u8)pci_read(slot, CAPABILITIES, 1) : (u8)pci_read(slot, after + 1, 1);
  for (u32 guard = 0; (at & 0xFC) != 0 && guard < 48; guard++) {
    at &= 0xFC;
    if (pci_read(slot, at, 1) == id) return at;
    at = (u8)pci_read(slot, at + 1, 1);
  }
  return 0;
}

u64 pci_bar(u8 slot, u32 index, u64* size) {
  u16 offset = (u16)(BAR0 + 4 * index);
  u32 low = pci_read(slot, offset, 4);
  if ((low & 1) != 0) return 0;
  bool wide = (low & 6) == 4;
  u32 high = wide ? pci_read(slot, offset + 4, 4) : 0;

  u32 command = pci_read(slot, COMMAND, 2);
  pci_write(slot, COMMAND, 2, command & ~(u32)COMMAND_MEMORY);
  pci_write(slot, offset, 4, 0xFFFFFFFF);
  u64 mask = pci_read(slot, offset, 4) & ~15u;
  pci_write(slot, offset, 4, low);
  if (wide) {
    pci_write(slot, offset + 4, 4, 0xFFFFFFFF);
    mask |= (u64)pci_read(slot, offset + 4, 4) << 32;
    pci_write(slot, offset + 4, 4, high);
  } else {
    mask |= 0xFFFFFFFFull << 32;
  }
  pci_write(slot, COMMAND, 2, command);
  *size = ~mask + 1;
  return (u64)high << 32 | (low & ~15u);
}

void pci_bar_move(u8 slot, u32 index, u64 address) {
  u16 offset = (u16)(BAR0 + 4 * index);
  bool wide = (pci_read(slot, offset, 4) & 6) == 4;
  u32 command = pci_read(slot, COMMAND, 2);
  pci_write(slot, COMMAND, 2, command & ~(u32)COMMAND_MEMORY);
  pci_write(slot, offset, 4, (u32)address);
  if (wide) pci_write(slot, offset + 4, 4, (u32)(address >> 32));
  pci_write(slot, COMMAND, 2, command);
}
