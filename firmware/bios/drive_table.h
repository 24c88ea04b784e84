// DriveTable: which drive has which INT 13h number.
//
//   00h       the floppy that is emulated, if one is
//   80h …     hard disks in the machine's order; an emulated one comes first and moves the others
//   E0h …     CDs
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "firmware/bios/drive.h"
#include "firmware/boot/el_torito.h"

namespace calf::firmware {

inline constexpr uint8_t kFirstFloppy = 0x00;
inline constexpr uint8_t kFirstHardDisk = 0x80;
inline constexpr uint8_t kFirstCd = 0xE0;

class DriveTable {
 public:
  // `disks` outlive the table. More than fit the numbers are left out.
  explicit DriveTable(std::span<const BiosDisk> disks);

  // As at power-on: no emulation.
  void reset();

  // Null if no drive has that number.
  Drive* find(uint8_t number);
  // The number of disks[index]; nothing if there was none left for it.
  std::optional<uint8_t> number_of(size_t index) const;
  // The drive that is the whole of disks[index].
  Drive& whole(size_t index) { return drives_[index]; }

  unsigned hard_disks() const;
  unsigned floppies() const;

  // The CD `cd` (a number) was booted from by `entry`; starts the emulation that it wants. Returns
  // the number of the drive from which the boot program believes to come.
  uint8_t boot_from_cd(uint8_t cd, const BootEntry& entry, Geometry geometry);
  // What the CD was booted with, if one was.
  const std::optional<SpecificationPacket>& boot_packet() const { return packet_; }
  // The emulated drive becomes a part of the CD again. False if there is none.
  bool end_emulation();

 private:
  bool emulates_hard_disk() const {
    return emulated_ && emulated_->type() == Drive::Type::kHardDisk;
  }

  std::vector<Drive> drives_;  // all disks, in the machine's order
  std::vector<size_t> hard_disks_;
  std::vector<size_t> cds_;
  std::optional<Drive> emulated_;
  std::optional<SpecificationPacket> packet_;
};

// The geometry of what `entry` emulates; `first_sector` is the emulated hard disk's.
Geometry emulated_geometry(const BootEntry& entry, std::span<const uint8_t, 512> first_sector);

}  // namespace calf::firmware
