// The ACPI tables of the machine: RSDP → RSDT and XSDT → FADT (→ FACS, DSDT), MADT, MCFG.
//
// ACPI is always on (no SMI command); the power button is fixed hardware; there is no sleep state
// but S5. ACPI 6.5, chapter 5; what a table contains beyond the obvious is said where it is built.
//
// Not supported: HPET, SRAT and other NUMA tables, CPU hot-plug, processor objects.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "block/base/result.h"
#include "firmware/acpi/dsdt.h"
#include "firmware/table_area.h"

namespace calf::firmware::acpi {

struct AcpiConfig {
  std::vector<uint32_t> apic_ids;  // one per vCPU, the boot processor first
  DsdtConfig dsdt;
};

struct PlacedAcpi {
  devices::Gpa rsdp;
  PlacedBytes facs;  // in writable memory, apart from the other tables
};

// Puts the tables into `area`, the RSDP at its next 16-byte boundary.
Result<PlacedAcpi> place_acpi(const AcpiConfig& config, TableArea& area);

// The single tables, complete with checksum; for place_acpi() and for tests.
std::vector<uint8_t> make_dsdt(const DsdtConfig& config);
std::vector<uint8_t> make_fadt(devices::Gpa facs, devices::Gpa dsdt);
std::vector<uint8_t> make_madt(std::span<const uint32_t> apic_ids);
std::vector<uint8_t> make_mcfg();

}  // namespace calf::firmware::acpi
