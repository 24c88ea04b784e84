#include "firmware/bios/boot_service.h"

#include <array>

#include "firmware/bios/areas.h"
#include "firmware/boot/mbr.h"

namespace calf::firmware {
namespace {

// What a boot program may be loaded over.
constexpr uint64_t kLoadStart = kBda.end();

Result<void> read_bytes(Drive& drive, uint64_t offset, std::span<uint8_t> to) {
  uint64_t size = drive.sectors() * drive.sector_size();
  if (offset > size || to.size() > size - offset) {
    return make_error(ErrorKind::kNotFound, "it ends before byte {}", offset + to.size());
  }
  iovec memory{to.data(), to.size()};
  return drive.read({offset, to.size()}, {&memory, 1});
}

RealModeRegs registers_at_start(uint16_t segment, uint8_t drive) {
  RealModeRegs regs;
  // 07C0:0 is meant to be 0:7C00 by boot programs that do not care, and by those that do.
  regs.cs = segment & 0xF000;
  regs.ip = static_cast<uint16_t>((segment & 0x0FFF) << 4);
  regs.sp.set_word(kBootAddress);
  regs.ax.set_word(0xAA55);  // the signature was checked
  regs.dx.set_low(drive);
  regs.flags = kFlagAlwaysOne | kFlagInterrupts;
  return regs;
}

}  // namespace

void BootService::reset() {
  next_ = 0;
  refusals_.clear();
}

Result<void> BootService::boot_next(RealModeRegs& regs) {
  while (next_ < sequence_.size()) {
    size_t index = sequence_[next_++];
    if (index >= disks_.size()) continue;
    drives_.reset();
    auto start = load(index);
    memory_.set_byte(bda::kDiskCount, static_cast<uint8_t>(drives_.hard_disks()));
    constexpr uint16_t kFloppyPresent = 1;
    uint16_t equipment = memory_.word(bda::kEquipment);
    memory_.set_word(bda::kEquipment,
                     static_cast<uint16_t>(drives_.floppies() ? equipment | kFloppyPresent
                                                              : equipment & ~kFloppyPresent));
    if (start.ok()) {
      regs = registers_at_start(start->segment, start->drive);
      return {};
    }
    const BiosDisk& disk = disks_[index];
    refusals_.push_back(fmt::format("{} ({}): {}", disk.name,
                                    disk.kind == DiskKind::kCdrom ? "CD" : "hard disk",
                                    start.error().message()));
  }
  return nothing_bootable();
}

Result<BootService::Start> BootService::load(size_t index) {
  auto number = drives_.number_of(index);
  if (!number) return Error(ErrorKind::kNotFound, "there are too many disks before it");
  return disks_[index].kind == DiskKind::kCdrom ? load_from_cd(index, *number)
                                                : load_from_hard_disk(index, *number);
}

Result<BootService::Start> BootService::load_from_hard_disk(size_t index, uint8_t number) {
  Drive& drive = drives_.whole(index);
  std::array<uint8_t, kBootSectorSize> sector;
  TRY_VOID(read_bytes(drive, 0, sector));
  TRY_VOID(check_boot_sector(sector));
  constexpr uint16_t kSegment = kBootAddress / 16;
  TRY_VOID(load_bytes(drive, {0, kBootSectorSize}, kSegment));
  return Start{kSegment, number};
}

Result<BootService::Start> BootService::load_from_cd(size_t index, uint8_t number) {
  Drive& drive = drives_.whole(index);
  CdReader reader = [&drive](uint64_t offset, std::span<uint8_t> to) {
    return read_bytes(drive, offset, to);
  };
  TRY(BootEntry entry, find_boot_entry(reader, drive.sectors() * drive.sector_size()));
  TRY_VOID(load_bytes(drive, {entry.image.offset, entry.load_bytes}, entry.load_segment));
  std::array<uint8_t, kBootSectorSize> first{};
  if (entry.media == BootMedia::kHardDisk) TRY_VOID(read_bytes(drive, entry.image.offset, first));
  uint8_t believed = drives_.boot_from_cd(number, entry, emulated_geometry(entry, first));
  return Start{entry.load_segment, believed};
}

Result<void> BootService::load_bytes(Drive& drive, ByteRange range, uint16_t segment) {
  devices::Gpa at = linear(segment, 0);
  std::vector<iovec> pieces;
  bool fits = raw(at) >= kLoadStart && raw(at) + range.length <= kLowRamEnd &&
              memory_.pieces(at, range.length, RealMemory::Direction::kToGuest, pieces);
  if (!fits) {
    return make_error(ErrorKind::kNotFound,
                      "its boot program ({} bytes at {:#x}) does not fit below {:#x}", range.length,
                      raw(at), kLowRamEnd);
  }
  return drive.read(range, pieces);
}

Error BootService::nothing_bootable() const {
  if (refusals_.empty()) {
    return Error(
        ErrorKind::kNotFound,
        "There is nothing to boot from: no disk is in the boot order.\nGive a disk image, a "
        "CD image (-cdrom) or a kernel (-kernel), or change the order (-boot).");
  }
  std::string text = "No bootable disk was found.";
  for (const std::string& line : refusals_)
    text += "\n  " + line;
  text +=
      "\nInstall a boot loader for a BIOS in the image, boot another disk (-boot order), or start "
      "a "
      "kernel directly (-kernel).";
  return Error(ErrorKind::kNotFound, std::move(text));
}

}  // namespace calf::firmware
