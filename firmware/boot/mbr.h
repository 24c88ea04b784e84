// The first sector of a disk: boot code, partition table, signature.
//
//   0     boot code, loaded to 0:7C00 and entered with the drive's number in DL
//   446   four partition entries of 16 bytes
//   510   55 AA
//
// Documentation: any description of the PC's master boot record; the layout of a partition's own
// boot sector is the same but for the table.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "block/base/result.h"

namespace calf::firmware {

inline constexpr size_t kBootSectorSize = 512;
inline constexpr uint16_t kBootAddress = 0x7C00;

using BootSector = std::span<const uint8_t, kBootSectorSize>;

// A sector's address by cylinder, head and sector (from 1).
struct ChsAddress {
  uint16_t cylinder;  // up to 1023
  uint8_t head;
  uint8_t sector;  // up to 63
};

struct Partition {
  bool active;
  uint8_t type;  // 0: the entry is not in use
  ChsAddress first;
  ChsAddress last;
  uint32_t first_sector;
  uint32_t sectors;
};

// Nothing without the signature. The entries are as they stand there.
std::optional<std::array<Partition, 4>> read_partitions(BootSector sector);

// Whether a BIOS would start the sector. The error says what is missing, as an end of "disk X: …".
Result<void> check_boot_sector(BootSector sector);

}  // namespace calf::firmware
