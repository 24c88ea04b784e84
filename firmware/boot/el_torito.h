// El Torito: how a CD is booted ("El Torito" Bootable CD-ROM Format Specification 1.0, with the
// platform IDs of UEFI 2.x).
//
//   sector 17   boot record volume descriptor  -> sector of the catalogue
//   catalogue   validation entry (checksum), default entry, then sections of entries
//   an entry    media type: none (a program is loaded), a floppy or a hard disk to be emulated;
//               where it stands, how much of it is loaded, to which segment
//
// The first entry for an x86 BIOS that is marked bootable is taken. The boot information table that
// some boot programs contain was patched into them when the image was made; nothing to do here.
//
// Not supported: selection criteria, catalogues of more than one sector.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "block/base/byte_range.h"
#include "block/base/endian.h"
#include "block/base/result.h"

namespace calf::firmware {

inline constexpr uint64_t kCdSectorSize = 2048;

enum class BootMedia : uint8_t {
  kNoEmulation = 0,
  kFloppy1200K = 1,
  kFloppy1440K = 2,
  kFloppy2880K = 3,
  kHardDisk = 4,
};

struct BootEntry {
  BootMedia media;
  uint16_t load_segment;  // never 0
  uint32_t load_bytes;    // of the image, into memory
  uint32_t first_sector;  // of the image, in CD sectors; at `image.offset` of the CD
  // The bytes of the image on the CD; lies inside. Its length for a hard disk is what its partition
  // table says; without emulation, what is loaded.
  ByteRange image;
};

// Reads bytes of the CD. The range was not checked against its size.
using CdReader = std::function<Result<void>(uint64_t offset, std::span<uint8_t> to)>;

// What to boot from the CD of `cd_size` bytes. kNotFound: it is not bootable, and the text says
// why, as an end of "disk X: …".
Result<BootEntry> find_boot_entry(const CdReader& read, uint64_t cd_size);

// INT 13h AH=4Bh fills this in.
struct SpecificationPacket {
  uint8_t size;   // 13h
  uint8_t media;  // BootMedia
  uint8_t drive;
  uint8_t controller;
  le32 first_sector;
  le16 device;
  le16 user_buffer;
  le16 load_segment;
  le16 sectors;         // loaded, of 512 bytes
  uint8_t cylinders;    // the geometry as INT 13h AH=08h tells it, 0 without emulation
  uint8_t sectors_chs;  // sectors, and the cylinder's bits 8 and 9
  uint8_t heads;
};
static_assert(sizeof(SpecificationPacket) == 0x13);

}  // namespace calf::firmware
