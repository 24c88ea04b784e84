// Drive: what one INT 13h drive number stands for, a disk or a part of one.
//
//     drive 80h  ->  Drive {disk 0, whole}
//     drive 00h  ->  Drive {CD, from its sector 27, 2880 x 512 bytes}     El Torito emulation
//
// Transfers go between the node and guest memory directly, on the node's executor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "block/base/byte_range.h"
#include "block/base/result.h"
#include "firmware/bios/bios.h"

namespace calf::firmware {

struct Geometry {
  uint32_t cylinders = 0;
  uint32_t heads = 0;    // up to 255
  uint32_t sectors = 0;  // of a track, up to 63
};

// The geometry that software of the time used for a disk of that many sectors.
Geometry default_geometry(uint64_t sectors);

// The geometry that the partition table in `boot_sector` was written for, if its entries agree on
// one.
std::optional<Geometry> geometry_of_partitions(std::span<const uint8_t, 512> boot_sector,
                                               uint64_t sectors);

class Drive {
 public:
  enum class Type : uint8_t { kFloppy, kHardDisk, kCdrom };

  // The whole of `disk`, which outlives the drive.
  explicit Drive(const BiosDisk& disk);
  // `part` of `disk` (bytes; inside it), with 512-byte sectors.
  Drive(const BiosDisk& disk, Type type, ByteRange part, Geometry geometry);

  Type type() const { return type_; }
  uint32_t sector_size() const { return sector_size_; }
  uint64_t sectors() const { return part_.length / sector_size_; }
  bool read_only() const { return read_only_; }
  const BiosDisk& disk() const { return *disk_; }
  bool is_emulated() const { return emulated_; }

  // Reads the partition table at first use.
  const Geometry& geometry();

  // Bytes of the drive; the range was checked to be inside. `memory` has range.length bytes.
  Result<void> read(ByteRange range, std::span<const iovec> memory);
  // A drive that is not read_only().
  Result<void> write(ByteRange range, std::span<const iovec> memory);
  // Makes what was written durable.
  Result<void> flush();

 private:
  const BiosDisk* disk_;
  Type type_;
  uint32_t sector_size_;
  bool read_only_;
  bool emulated_ = false;
  bool dirty_ = false;
  ByteRange part_;
  std::optional<Geometry> geometry_;
};

}  // namespace calf::firmware
