// The machine's DSDT: the PCI root with its windows and interrupt routing, and the chips on fixed
// ports, only those that the machine has.
#pragma once

#include <cstdint>
#include <vector>

#include "block/base/byte_range.h"

namespace calf::firmware::acpi {

struct DsdtConfig {
  ByteRange pci_window64;
  unsigned pci_slots = 32;        // slots 0 to pci_slots - 1 get interrupt routing; at most 32
  uint8_t serial_ports = 0b1111;  // bit n: COM(n+1) is there
  bool pvpanic = false;
};

// The byte code that follows the table's header.
std::vector<uint8_t> dsdt_code(const DsdtConfig& config);

}  // namespace calf::firmware::acpi
