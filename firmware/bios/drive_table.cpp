#include "firmware/bios/drive_table.h"

#include <algorithm>

#include "firmware/boot/mbr.h"

namespace calf::firmware {
namespace {

constexpr size_t kMaxHardDisks = kFirstCd - kFirstHardDisk - 1;  // one may be emulated
constexpr size_t kMaxCds = 0x100 - kFirstCd;

}  // namespace

DriveTable::DriveTable(std::span<const BiosDisk> disks) {
  drives_.reserve(disks.size());
  for (const BiosDisk& disk : disks) {
    bool cd = disk.kind == DiskKind::kCdrom;
    auto& list = cd ? cds_ : hard_disks_;
    if (list.size() < (cd ? kMaxCds : kMaxHardDisks)) list.push_back(drives_.size());
    drives_.emplace_back(disk);
  }
}

void DriveTable::reset() {
  emulated_.reset();
  packet_.reset();
}

Drive* DriveTable::find(uint8_t number) {
  if (number < kFirstHardDisk) {
    bool floppy = emulated_ && !emulates_hard_disk() && number == kFirstFloppy;
    return floppy ? &*emulated_ : nullptr;
  }
  if (number >= kFirstCd) {
    size_t index = number - kFirstCd;
    return index < cds_.size() ? &drives_[cds_[index]] : nullptr;
  }
  size_t index = number - kFirstHardDisk;
  if (emulates_hard_disk()) {
    if (index == 0) return &*emulated_;
    --index;
  }
  return index < hard_disks_.size() ? &drives_[hard_disks_[index]] : nullptr;
}

std::optional<uint8_t> DriveTable::number_of(size_t index) const {
  auto search = [&](const std::vector<size_t>& list, unsigned first) -> std::optional<uint8_t> {
    auto found = std::find(list.begin(), list.end(), index);
    if (found == list.end()) return std::nullopt;
    return static_cast<uint8_t>(first + static_cast<unsigned>(found - list.begin()));
  };
  if (auto number = search(cds_, kFirstCd)) return number;
  return search(hard_disks_, kFirstHardDisk + (emulates_hard_disk() ? 1u : 0u));
}

unsigned DriveTable::hard_disks() const {
  return static_cast<unsigned>(hard_disks_.size()) + (emulates_hard_disk() ? 1 : 0);
}

unsigned DriveTable::floppies() const {
  return emulated_ && !emulates_hard_disk() ? 1 : 0;
}

uint8_t DriveTable::boot_from_cd(uint8_t cd, const BootEntry& entry, Geometry geometry) {
  SpecificationPacket packet{};
  packet.size = sizeof packet;
  packet.media = static_cast<uint8_t>(entry.media);
  packet.drive = cd;
  packet.controller = static_cast<uint8_t>(cd - kFirstCd);
  packet.first_sector = entry.first_sector;
  packet.load_segment = entry.load_segment;
  packet.sectors = static_cast<uint16_t>(entry.load_bytes / kBootSectorSize);
  emulated_.reset();
  if (entry.media != BootMedia::kNoEmulation) {
    bool hard_disk = entry.media == BootMedia::kHardDisk;
    const BiosDisk& disk = drives_[cds_[cd - kFirstCd]].disk();
    emulated_.emplace(disk, hard_disk ? Drive::Type::kHardDisk : Drive::Type::kFloppy, entry.image,
                      geometry);
    packet.drive = hard_disk ? kFirstHardDisk : kFirstFloppy;
    uint32_t last = geometry.cylinders - 1;
    packet.cylinders = static_cast<uint8_t>(last);
    packet.sectors_chs = static_cast<uint8_t>(geometry.sectors | (last >> 8 & 3) << 6);
    packet.heads = static_cast<uint8_t>(geometry.heads - 1);
  }
  packet_ = packet;
  return packet.drive;
}

bool DriveTable::end_emulation() {
  if (!emulated_) return false;
  emulated_.reset();
  return true;
}

Geometry emulated_geometry(const BootEntry& entry, std::span<const uint8_t, 512> first_sector) {
  switch (entry.media) {
    case BootMedia::kNoEmulation:
      return {};
    case BootMedia::kFloppy1200K:
      return {80, 2, 15};
    case BootMedia::kFloppy1440K:
      return {80, 2, 18};
    case BootMedia::kFloppy2880K:
      return {80, 2, 36};
    case BootMedia::kHardDisk:
      break;
  }
  uint64_t sectors = entry.image.length / kBootSectorSize;
  auto told = geometry_of_partitions(first_sector, sectors);
  return told ? *told : default_geometry(sectors);
}

}  // namespace calf::firmware
