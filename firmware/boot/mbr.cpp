#include "firmware/boot/mbr.h"

#include <algorithm>
#include <cstring>

#include "block/base/endian.h"

namespace calf::firmware {
namespace {

constexpr size_t kTableOffset = 446;
constexpr size_t kSignatureOffset = 510;
constexpr uint8_t kTypeGptProtective = 0xEE;

struct RawChs {
  uint8_t head;
  uint8_t sector_and_cylinder_high;
  uint8_t cylinder_low;

  ChsAddress decode() const {
    return {static_cast<uint16_t>(cylinder_low | (sector_and_cylinder_high & 0xC0) << 2), head,
            static_cast<uint8_t>(sector_and_cylinder_high & 0x3F)};
  }
};

struct RawPartition {
  uint8_t status;  // 80h: active
  RawChs first;
  uint8_t type;
  RawChs last;
  le32 first_sector;
  le32 sectors;
};
static_assert(sizeof(RawPartition) == 16);

bool has_signature(BootSector sector) {
  return sector[kSignatureOffset] == 0x55 && sector[kSignatureOffset + 1] == 0xAA;
}

}  // namespace

std::optional<std::array<Partition, 4>> read_partitions(BootSector sector) {
  if (!has_signature(sector)) return std::nullopt;
  std::array<RawPartition, 4> raw;
  std::memcpy(&raw, sector.data() + kTableOffset, sizeof raw);
  std::array<Partition, 4> table;
  std::transform(raw.begin(), raw.end(), table.begin(), [](const RawPartition& p) {
    return Partition{(p.status & 0x80) != 0, p.type,         p.first.decode(),
                     p.last.decode(),        p.first_sector, p.sectors};
  });
  return table;
}

Result<void> check_boot_sector(BootSector sector) {
  if (!has_signature(sector)) {
    bool empty = std::all_of(sector.begin(), sector.end(), [](uint8_t b) { return b == 0; });
    if (empty) return Error(ErrorKind::kNotFound, "the first sector is empty");
    return Error(ErrorKind::kNotFound, "the first sector has no boot signature (55 AA)");
  }
  bool code =
      std::any_of(sector.begin(), sector.begin() + kTableOffset, [](uint8_t b) { return b != 0; });
  if (code) return {};
  auto table = read_partitions(sector);
  bool gpt = std::any_of(table->begin(), table->end(),
                         [](const Partition& p) { return p.type == kTypeGptProtective; });
  if (gpt) {
    return Error(ErrorKind::kNotFound,
                 "it has a GPT and no boot code for a BIOS (it is made for UEFI only?)");
  }
  return Error(ErrorKind::kNotFound, "its partition table is there, but no boot code before it");
}

}  // namespace calf::firmware
