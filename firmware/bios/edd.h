// Structures of the Enhanced Disk Drive services (Phoenix EDD specification 1.1 and
// 3.0; ANSI INCITS 363). Bytes only.
#pragma once

#include "block/base/endian.h"

namespace calf::firmware {

// INT 13h 42h–44h, 47h: what to transfer, at DS:SI.
struct DiskAddressPacket {
  uint8_t size;  // 10h, or 18h with the flat address
  uint8_t reserved;
  le16 count;  // sectors; the BIOS stores how many were transferred
  le16 offset;
  le16 segment;  // FFFF:FFFF: the flat address counts
  le64 sector;
};
static_assert(sizeof(DiskAddressPacket) == 0x10);
inline constexpr uint8_t kPacketWithFlatAddress = 0x18;  // le64 behind the packet

// INT 13h 48h: the drive's parameters, at DS:SI.
struct DriveParameters {
  le16 size;  // of the caller's buffer, then of what was stored
  le16 flags;
  le32 cylinders;
  le32 heads;
  le32 sectors;  // per track
  le64 total_sectors;
  le16 sector_size;
  // 2.0
  le16 dpte_offset;  // FFFF:FFFF: there is none
  le16 dpte_segment;
  // 3.0: where the device is
  le16 path_key;      // BEDDh
  uint8_t path_size;  // from the key to the checksum
  uint8_t reserved1;
  le16 reserved2;
  char bus[4];
  char interface[8];
  uint8_t pci_bus;
  uint8_t pci_slot;
  uint8_t pci_function;
  uint8_t reserved3[5];
  uint8_t device_path[8];
  uint8_t reserved4;
  uint8_t checksum;  // the path's bytes sum to zero
};
static_assert(sizeof(DriveParameters) == 66);
inline constexpr uint16_t kDriveParameters1Size = 26;
inline constexpr uint16_t kDriveParameters2Size = 30;
inline constexpr uint16_t kDriveParameters3Size = 66;
inline constexpr uint16_t kDevicePathKey = 0xBEDD;

// Flags of DriveParameters.
inline constexpr uint16_t kGeometryValid = 1u << 1;
inline constexpr uint16_t kRemovable = 1u << 2;

// INT 13h 41h.
inline constexpr uint16_t kExtensionsAsk = 0x55AA;
inline constexpr uint16_t kExtensionsAnswer = 0xAA55;
inline constexpr uint8_t kEddVersion30 = 0x30;
inline constexpr uint16_t kExtendedAccess = 1u << 0;
inline constexpr uint16_t kEddSupport = 1u << 2;

}  // namespace calf::firmware
