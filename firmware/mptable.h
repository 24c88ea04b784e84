// The MP configuration table: processors, buses, IOAPIC and interrupt lines, for kernels that do
// not read ACPI. Intel MultiProcessor Specification 1.4, chapter 4.
//
// Not supported: processors whose APIC ID does not fit 8 bits (they are left out).
#pragma once

#include <cstdint>
#include <span>

#include "block/base/result.h"
#include "firmware/table_area.h"

namespace calf::firmware {

// The table goes to `tables`, the floating pointer to `entry_points`. PCI interrupts of slots 0 to
// pci_slots - 1 are listed.
Result<void> place_mptable(std::span<const uint32_t> apic_ids, unsigned pci_slots,
                           TableArea& tables, TableArea& entry_points);

}  // namespace calf::firmware
