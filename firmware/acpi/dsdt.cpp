#include "firmware/acpi/dsdt.h"

#include <cassert>
#include <string>

#include "devices/legacy/acpi_pm.h"
#include "firmware/acpi/aml.h"
#include "firmware/memory_map.h"
#include "firmware/platform.h"

namespace calf::firmware::acpi {
namespace {

using aml::Bytes;
using aml::device;
using aml::eisa_id;
using aml::integer;
using aml::name;
using aml::package;
using aml::resources;

// _PRT (ACPI 6.5, 6.2.13): slot and pin to a line, named by its number and by no link device.
Bytes interrupt_routing(unsigned slots) {
  std::vector<Bytes> entries;
  for (unsigned slot = 0; slot < slots; ++slot) {
    for (unsigned pin = 0; pin < 4; ++pin) {
      uint64_t address = uint64_t{slot} << 16 | 0xFFFF;  // every function
      entries.push_back(
          package({integer(address), integer(pin), integer(0), integer(pci_intx_line(slot, pin))}));
    }
  }
  return package(entries);
}

// A conventional host bridge. PNP0A08 would make the guest negotiate PCI Express features that no
// device here has.
Bytes pci_root(const DsdtConfig& config) {
  return device("PCI0", {
                            name("_HID", eisa_id("PNP0A03")),
                            name("_UID", integer(0)),
                            name("_BBN", integer(0)),
                            name("_CRS", resources({
                                             aml::bus_window(0, kEcamLastBus),
                                             aml::io(kPciConfigPort, 8),
                                             aml::io_window(kPciIoWindow),
                                             aml::memory_window32(kPciWindow32),
                                             aml::memory_window64(config.pci_window64),
                                         })),
                            name("_PRT", interrupt_routing(config.pci_slots)),
                        });
}

// Claims what belongs to no other device: the ECAM (PCI Firmware Specification 3.0, 4.1.2), the
// power management ports, the fast reset and the keyboard controller. The latter is there for its
// reset command alone; were it described as PNP0303, guests would spend time on the search for a
// keyboard.
Bytes system_resources() {
  return device("SYSR", {
                            name("_HID", eisa_id("PNP0C02")),
                            name("_CRS", resources({
                                             aml::memory32(kEcam.offset, kEcam.length),
                                             aml::io(kI8042DataPort, 1),
                                             aml::io(kI8042CommandPort, 1),
                                             aml::io(kFastResetPort, 1),
                                             aml::io(kPmBase, devices::AcpiPm::kWindow),
                                         })),
                        });
}

Bytes serial_port(unsigned index) {
  IsaPort chip = kSerialPorts[index];
  std::string number = std::to_string(index + 1);
  return device("COM" + number, {
                                    name("_HID", eisa_id("PNP0501")),
                                    name("_UID", integer(index + 1)),
                                    name("_CRS", resources({
                                                     aml::io(chip.port, 8),
                                                     aml::irq(chip.irq),
                                                 })),
                                });
}

Bytes real_time_clock() {
  return device("RTC_", {
                            name("_HID", eisa_id("PNP0B00")),
                            name("_CRS", resources({aml::io(kRtcPort, 2), aml::irq(kRtcIrq)})),
                        });
}

Bytes pvpanic() {
  return device("PEVT", {
                            name("_HID", aml::string("QEMU0001")),
                            name("_STA", integer(0x0F)),
                            name("_CRS", resources({aml::io(kPvpanicPort, 1)})),
                        });
}

}  // namespace

std::vector<uint8_t> dsdt_code(const DsdtConfig& config) {
  assert(config.pci_slots <= 32);
  std::vector<Bytes> devices = {pci_root(config), system_resources(), real_time_clock()};
  for (unsigned i = 0; i < kSerialPorts.size(); ++i) {
    if (config.serial_ports & (1u << i)) devices.push_back(serial_port(i));
  }
  if (config.pvpanic) devices.push_back(pvpanic());

  constexpr uint8_t kS5 = devices::AcpiPm::kSleepTypeS5;
  Bytes s5 = package({integer(kS5), integer(kS5), integer(0), integer(0)});
  std::vector<Bytes> root = {name("_S5_", s5), aml::scope("_SB_", devices)};
  return aml::concat(root);
}

}  // namespace calf::firmware::acpi
