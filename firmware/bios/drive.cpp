#include "firmware/bios/drive.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "block/base/endian.h"
#include "firmware/boot/mbr.h"

namespace calf::firmware {
namespace {

constexpr uint32_t kCdSectorSize = 2048;

Drive::Type type_of(DiskKind kind) {
  return kind == DiskKind::kCdrom ? Drive::Type::kCdrom : Drive::Type::kHardDisk;
}

Geometry with_cylinders(uint32_t heads, uint32_t sectors_per_track, uint64_t sectors) {
  uint64_t cylinders = sectors / (uint64_t{heads} * sectors_per_track);
  return {static_cast<uint32_t>(std::clamp<uint64_t>(cylinders, 1, 1024)), heads,
          sectors_per_track};
}

}  // namespace

Geometry default_geometry(uint64_t sectors) {
  constexpr uint64_t kSectorsPerTrack = 63;
  uint32_t heads = 16;
  while (heads < 255 && sectors > uint64_t{heads} * kSectorsPerTrack * 1024)
    heads = std::min(heads * 2, 255u);
  return with_cylinders(heads, kSectorsPerTrack, sectors);
}

std::optional<Geometry> geometry_of_partitions(std::span<const uint8_t, 512> boot_sector,
                                               uint64_t sectors) {
  auto table = read_partitions(boot_sector);
  if (!table) return std::nullopt;
  std::optional<Geometry> found;
  for (const Partition& entry : *table) {
    if (entry.type == 0 || entry.sectors == 0) continue;
    // A partition ends with a cylinder, so its last head and sector are the largest.
    uint32_t heads = entry.last.head + 1u;
    uint32_t per_track = entry.last.sector;
    if (heads < 2 || heads > 255 || per_track == 0) continue;
    uint64_t end =
        (uint64_t{entry.last.cylinder} * heads + entry.last.head) * per_track + per_track - 1;
    constexpr uint16_t kLastCylinder = 1023;  // also stands for all that is beyond
    bool fits = end == uint64_t{entry.first_sector} + entry.sectors - 1;
    if (entry.last.cylinder < kLastCylinder && !fits) continue;
    if (found && (found->heads != heads || found->sectors != per_track)) return std::nullopt;
    found = with_cylinders(heads, per_track, sectors);
  }
  return found;
}

Drive::Drive(const BiosDisk& disk)
    : disk_(&disk),
      type_(type_of(disk.kind)),
      sector_size_(disk.kind == DiskKind::kCdrom ? kCdSectorSize : disk.sector_size),
      read_only_(disk.read_only || disk.kind == DiskKind::kCdrom),
      part_{0, disk.node->size()} {}

Drive::Drive(const BiosDisk& disk, Type type, ByteRange part, Geometry geometry)
    : disk_(&disk),
      type_(type),
      sector_size_(512),
      read_only_(true),
      emulated_(true),
      part_(part),
      geometry_(geometry) {}

const Geometry& Drive::geometry() {
  if (geometry_) return *geometry_;
  geometry_ = default_geometry(sectors());
  std::array<uint8_t, 512> sector{};
  if (part_.length < sector.size() || type_ != Type::kHardDisk) return *geometry_;
  iovec memory{sector.data(), sector.size()};
  // A disk whose first sector cannot be read has no table that could tell.
  if (read({0, sector.size()}, {&memory, 1}).ok()) {
    if (auto told = geometry_of_partitions(sector, sectors())) geometry_ = *told;
  }
  return *geometry_;
}

Result<void> Drive::read(ByteRange range, std::span<const iovec> memory) {
  assert(range.end() <= part_.length);
  range.offset += part_.offset;
  return disk_->executor->run_blocking(disk_->node->read(range.offset, IoSlice(memory)));
}

Result<void> Drive::write(ByteRange range, std::span<const iovec> memory) {
  assert(range.end() <= part_.length && !read_only_);
  range.offset += part_.offset;
  dirty_ = true;
  return disk_->executor->run_blocking(
      disk_->node->write(range.offset, IoSlice(memory), block::WriteFlags{}));
}

Result<void> Drive::flush() {
  if (!dirty_) return {};
  TRY_VOID(disk_->executor->run_blocking(disk_->node->flush()));
  dirty_ = false;
  return {};
}

}  // namespace calf::firmware
