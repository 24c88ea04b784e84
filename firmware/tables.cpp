#include "firmware/tables.h"

#include <algorithm>

#include "firmware/acpi/acpi.h"
#include "firmware/mptable.h"

namespace calf::firmware {

Result<FirmwareTables> build_tables(const TablesConfig& config, const MemoryMap& map) {
  TableArea tables(kTableArea);
  TableArea entry_points(kEntryPointArea);

  acpi::AcpiConfig acpi_config;
  acpi_config.apic_ids = config.apic_ids;
  acpi_config.dsdt.pci_window64 = map.pci_window64();
  acpi_config.dsdt.pci_slots = config.pci_slots;
  acpi_config.dsdt.serial_ports = config.serial_ports;
  acpi_config.dsdt.pvpanic = config.pvpanic;
  TRY(acpi::PlacedAcpi acpi, acpi::place_acpi(acpi_config, tables));
  TRY_VOID(place_mptable(config.apic_ids, config.pci_slots, tables, entry_points));
  TRY_VOID(place_smbios(config.smbios, config.topology, map, tables, entry_points));

  FirmwareTables out;
  out.rsdp = acpi.rsdp;
  out.pieces.push_back(std::move(acpi.facs));
  out.pieces.push_back(std::move(tables).take());
  out.pieces.push_back(std::move(entry_points).take());
  return out;
}

Result<void> FirmwareTables::install(const devices::GuestMemory& memory) const {
  for (const PlacedBytes& piece : pieces) {
    auto target = memory.translate(piece.address, piece.bytes.size());
    if (!target) {
      return make_error(ErrorKind::kInvalid, "no guest memory at {:#x} for the firmware's tables",
                        raw(piece.address));
    }
    std::ranges::copy(piece.bytes, target->begin());
  }
  return {};
}

}  // namespace calf::firmware
