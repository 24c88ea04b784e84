// The machine's fixed I/O ports and interrupt lines, in one place: the VMM maps the chips here, the
// ACPI and MP tables tell the guest. (Memory addresses are in memory_map.h.)
#pragma once

#include <array>
#include <cstdint>

namespace calf::firmware {

// Serial ports, COM1 first.
struct IsaPort {
  uint16_t port;
  uint8_t irq;
};
inline constexpr std::array<IsaPort, 4> kSerialPorts{
    {{0x3F8, 4}, {0x2F8, 3}, {0x3E8, 4}, {0x2E8, 3}}};

inline constexpr uint16_t kPitPort = 0x40;
inline constexpr uint16_t kSpeakerPort = 0x61;
inline constexpr uint16_t kRtcPort = 0x70;
inline constexpr uint8_t kRtcIrq = 8;
inline constexpr uint16_t kI8042DataPort = 0x60;
inline constexpr uint16_t kI8042CommandPort = 0x64;
inline constexpr uint8_t kI8042Irq = 1;
inline constexpr uint16_t kFastResetPort = 0x92;
inline constexpr uint16_t kPvpanicPort = 0x505;
inline constexpr uint16_t kPciConfigPort = 0xCF8;

// ACPI fixed hardware (ACPI 6.5, 4.8), one block of ports that devices::AcpiPm answers.
inline constexpr uint16_t kPmBase = 0x600;  // as on QEMU's q35
inline constexpr uint8_t kSciIrq = 9;       // level, active high

inline constexpr uint8_t kIoapicId = 0;
inline constexpr unsigned kIoapicPins = 24;
inline constexpr uint8_t kTimerIrq = 0;        // of the PIC;
inline constexpr uint8_t kTimerIoapicPin = 2;  // the IOAPIC sees it on pin 2

// Legacy PCI interrupts: pin INTA (0) … INTD (3) of device `slot` on bus 0. These lines reach both
// the PIC and the IOAPIC, so they work for a guest that uses either. Level, active low.
inline constexpr std::array<uint8_t, 4> kPciIntxLines{10, 11, 14, 15};
constexpr uint8_t pci_intx_line(unsigned slot, unsigned pin) {
  return kPciIntxLines[(slot + pin) % kPciIntxLines.size()];
}

}  // namespace calf::firmware
