// All tables that the firmware leaves in memory for the guest: ACPI, SMBIOS and MP, each where its
// specification lets the guest look for it (memory_map.h has the areas).
#pragma once

#include <cstdint>
#include <vector>

#include "block/base/result.h"
#include "devices/core/guest_memory.h"
#include "firmware/memory_map.h"
#include "firmware/smbios.h"
#include "firmware/table_area.h"

namespace calf::firmware {

struct TablesConfig {
  std::vector<uint32_t> apic_ids;  // one per vCPU, the boot processor first
  SmbiosMachine topology;
  unsigned pci_slots = 32;        // slots 0 to pci_slots - 1 may have devices
  uint8_t serial_ports = 0b1111;  // bit n: COM(n+1) is there
  bool pvpanic = false;
  SmbiosConfig smbios;
};

struct FirmwareTables {
  devices::Gpa rsdp;
  std::vector<PlacedBytes> pieces;

  // Into guest memory, read-only regions included. Again at each reset: one piece is writable.
  Result<void> install(const devices::GuestMemory& memory) const;
};

Result<FirmwareTables> build_tables(const TablesConfig& config, const MemoryMap& map);

}  // namespace calf::firmware
