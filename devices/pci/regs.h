// PCI configuration space: offsets and bits, nothing else.
// PCI Local Bus 3.0, chapter 6 (type 0 header: 6.1; capabilities: 6.7; MSI-X: 6.8.2),
// PCI Express 4.0, 7.2.2 (ECAM).
#pragma once

#include <cstdint>

namespace calf::pci {

// Bytes of configuration space that a conventional function has. ECAM gives room for 4096; reads
// above 256 are all ones, which says "no extended space".
inline constexpr unsigned kConfigSize = 256;

// Offset of a register in the type 0 header.
enum Reg : uint16_t {
  kRegVendorId = 0x00,           // 2
  kRegDeviceId = 0x02,           // 2
  kRegCommand = 0x04,            // 2
  kRegStatus = 0x06,             // 2
  kRegRevision = 0x08,           // 1
  kRegClass = 0x09,              // 3: programming interface, subclass, class
  kRegCacheLineSize = 0x0c,      // 1
  kRegLatencyTimer = 0x0d,       // 1
  kRegHeaderType = 0x0e,         // 1
  kRegBist = 0x0f,               // 1
  kRegBar0 = 0x10,               // 4 each, six of them
  kRegSubsystemVendorId = 0x2c,  // 2
  kRegSubsystemId = 0x2e,        // 2
  kRegRomBase = 0x30,            // 4
  kRegCapabilities = 0x34,       // 1
  kRegInterruptLine = 0x3c,      // 1
  kRegInterruptPin = 0x3d,       // 1
  kRegHeaderEnd = 0x40,          // capabilities and device registers from here
};

inline constexpr unsigned kBarCount = 6;

enum Command : uint16_t {
  kCommandIo = 1u << 0,
  kCommandMemory = 1u << 1,
  kCommandBusMaster = 1u << 2,
  kCommandParity = 1u << 6,
  kCommandSerr = 1u << 8,
  kCommandIntxDisable = 1u << 10,
};

enum Status : uint16_t {
  kStatusInterrupt = 1u << 3,
  kStatusCapabilities = 1u << 4,
};

enum BarBits : uint32_t {
  kBarIo = 1u << 0,
  kBarMemory64 = 2u << 1,
  kBarPrefetchable = 1u << 3,
  kBarMemoryFlags = 0xf,
};

enum CapabilityId : uint8_t {
  kCapVendor = 0x09,
  kCapMsix = 0x11,
};

// Offsets within the MSI-X capability, and its bits.
enum MsixCap : uint8_t {
  kMsixCapControl = 2,  // 2
  kMsixCapTable = 4,    // 4: offset | BAR
  kMsixCapPba = 8,      // 4: offset | BAR
  kMsixCapSize = 12,
};
enum MsixControl : uint16_t {
  kMsixControlSizeMask = 0x7ff,  // vectors - 1
  kMsixControlFunctionMask = 1u << 14,
  kMsixControlEnable = 1u << 15,
};
// One entry of the table.
enum MsixEntry : uint8_t {
  kMsixEntryAddress = 0,       // 4
  kMsixEntryAddressUpper = 4,  // 4
  kMsixEntryData = 8,          // 4
  kMsixEntryControl = 12,      // 4, bit 0: masked
  kMsixEntrySize = 16,
};
inline constexpr uint32_t kMsixEntryMasked = 1;

// Configuration mechanism #1 (PCI 3.0, 3.2.2.3.2).
inline constexpr uint16_t kConfigAddressPort = 0xcf8;
inline constexpr uint16_t kConfigDataPort = 0xcfc;
inline constexpr uint16_t kConfigPortCount = 8;
inline constexpr uint32_t kConfigAddressEnable = 1u << 31;

// ECAM: bus << 20 | device << 15 | function << 12 | register.
inline constexpr unsigned kEcamBusShift = 20;
inline constexpr unsigned kEcamDeviceShift = 15;
inline constexpr unsigned kEcamFunctionShift = 12;

}  // namespace calf::pci
