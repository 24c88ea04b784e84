// PCI configuration space of bus 0: through ports 0xCF8/0xCFC, or ECAM where there are no such
// ports or `pci=ecam` asks for it.
#pragma once

#include "guest.h"

enum { CAPABILITY_MSIX = 0x11 };

struct pci_device {
  u8 slot;  // device << 3 | function
  u16 vendor, id;
};

void pci_open(void);
// The index-th device with these IDs.
bool pci_find(u16 vendor, u16 id, u32 index, struct pci_device* found);
// Calls for every function that is there.
void pci_each(void (*visit)(const struct pci_device*, void*), void* context);
u32 pci_read(u8 slot, u16 offset, u32 width);
void pci_write(u8 slot, u16 offset, u32 width, u32 value);
// Offset of the next capability with this ID after `after` (0: from the start); 0 when there is
// none.
u8 pci_capability(u8 slot, u8 id, u8 after);
// Address and size of a memory BAR, 0 when it is no such or unassigned.
u64 pci_bar(u8 slot, u32 index, u64* size);
// Moves a memory BAR.
void pci_bar_move(u8 slot, u32 index, u64 address);
