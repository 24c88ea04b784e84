#include "firmware/boot/el_torito.h"

#include <array>
#include <cstring>
#include <optional>

#include "firmware/boot/mbr.h"

namespace calf::firmware {
namespace {

constexpr uint64_t kBootRecordSector = 17;
constexpr uint64_t kLastDescriptorSector = 32;  // of those looked at
constexpr uint16_t kDefaultSegment = kBootAddress / 16;
constexpr uint64_t kVirtualSector = 512;

struct BootRecord {
  uint8_t type;  // 0
  char standard[5];
  uint8_t version;  // 1
  char system[32];
  uint8_t unused[32];
  le32 catalogue;
};
static_assert(sizeof(BootRecord) == 75);

enum class Platform : uint8_t { kX86 = 0, kEfi = 0xEF };

struct ValidationEntry {
  uint8_t header;  // 1
  uint8_t platform;
  le16 reserved;
  char id[24];
  le16 checksum;  // makes the sum of all words zero
  uint8_t key[2];
};

struct RawEntry {
  uint8_t bootable;
  uint8_t media;  // low four bits
  le16 load_segment;
  uint8_t system;
  uint8_t unused;
  le16 sectors;
  le32 first_sector;
  uint8_t selection[20];
};

struct SectionHeader {
  uint8_t header;
  uint8_t platform;
  le16 entries;
  char id[28];
};
static_assert(sizeof(ValidationEntry) == 32 && sizeof(RawEntry) == 32 &&
              sizeof(SectionHeader) == 32);

constexpr uint8_t kBootable = 0x88;
constexpr uint8_t kSection = 0x90;
constexpr uint8_t kLastSection = 0x91;

using Catalogue = std::array<uint8_t, kCdSectorSize>;
constexpr size_t kEntrySize = 32;
constexpr size_t kEntries = kCdSectorSize / kEntrySize;

template <class T>
T entry_at(const Catalogue& catalogue, size_t index) {
  static_assert(sizeof(T) == kEntrySize);
  T entry;
  std::memcpy(&entry, catalogue.data() + index * kEntrySize, sizeof entry);
  return entry;
}

Error not_bootable(std::string text) {
  return Error(ErrorKind::kNotFound, std::move(text));
}

Result<uint32_t> find_catalogue(const CdReader& read, uint64_t cd_size) {
  constexpr std::string_view kStandard = "CD001";
  constexpr std::string_view kSystem = "EL TORITO SPECIFICATION";
  constexpr uint8_t kTerminator = 0xFF;
  if (cd_size < (kBootRecordSector + 1) * kCdSectorSize) {
    return not_bootable("it is too small for a CD image");
  }
  for (uint64_t sector = kBootRecordSector; sector < kLastDescriptorSector; ++sector) {
    if ((sector + 1) * kCdSectorSize > cd_size) break;
    BootRecord record;
    TRY_VOID(read(sector * kCdSectorSize, {reinterpret_cast<uint8_t*>(&record), sizeof record}));
    if (std::memcmp(record.standard, kStandard.data(), kStandard.size()) != 0) {
      if (sector == kBootRecordSector) return not_bootable("it is not a CD image (ISO 9660)");
      break;
    }
    if (record.type == kTerminator) break;
    if (record.type == 0 && std::memcmp(record.system, kSystem.data(), kSystem.size()) == 0) {
      return record.catalogue.value();
    }
  }
  return not_bootable("it has no El Torito boot record");
}

Result<void> check_validation(const Catalogue& catalogue) {
  auto entry = entry_at<ValidationEntry>(catalogue, 0);
  uint16_t sum = 0;
  for (size_t i = 0; i < kEntrySize; i += 2)
    sum = static_cast<uint16_t>(sum + (catalogue[i] | catalogue[i + 1] << 8));
  if (entry.header != 1 || entry.key[0] != 0x55 || entry.key[1] != 0xAA || sum != 0) {
    return not_bootable("its boot catalogue is damaged (validation entry, checksum)");
  }
  return {};
}

struct Choice {
  RawEntry entry;
  bool found = false;
  bool efi = false;  // one for UEFI was seen
};

Choice choose(const Catalogue& catalogue) {
  Choice choice;
  auto consider = [&](uint8_t platform, size_t index) {
    auto entry = entry_at<RawEntry>(catalogue, index);
    if (entry.bootable != kBootable || choice.found) return;
    if (platform == static_cast<uint8_t>(Platform::kEfi)) choice.efi = true;
    if (platform != static_cast<uint8_t>(Platform::kX86)) return;
    choice.entry = entry;
    choice.found = true;
  };
  consider(entry_at<ValidationEntry>(catalogue, 0).platform, 1);
  for (size_t index = 2; index < kEntries;) {
    auto section = entry_at<SectionHeader>(catalogue, index);
    if (section.header != kSection && section.header != kLastSection) break;
    size_t first = index + 1;
    for (size_t i = first; i < kEntries && i < first + section.entries; ++i)
      consider(section.platform, i);
    index = first + section.entries;
    if (section.header == kLastSection) break;
  }
  return choice;
}

// The emulated disk ends where its partition does.
Result<uint64_t> hard_disk_size(const CdReader& read, uint64_t start) {
  std::array<uint8_t, kBootSectorSize> sector;
  TRY_VOID(read(start, sector));
  auto table = read_partitions(sector);
  if (!table || (*table)[0].type == 0) {
    return not_bootable("the hard disk to be emulated has no partition");
  }
  return (uint64_t{(*table)[0].first_sector} + (*table)[0].sectors) * kVirtualSector;
}

Result<BootEntry> resolve(const RawEntry& raw, const CdReader& read, uint64_t cd_size) {
  BootEntry entry{};
  uint8_t media = raw.media & 0x0F;
  if (media > static_cast<uint8_t>(BootMedia::kHardDisk)) {
    return not_bootable(fmt::format("its boot entry has an unknown media type ({})", media));
  }
  entry.media = static_cast<BootMedia>(media);
  entry.load_segment = raw.load_segment != 0 ? raw.load_segment.value() : kDefaultSegment;
  entry.first_sector = raw.first_sector;
  entry.load_bytes = static_cast<uint32_t>(raw.sectors * kVirtualSector);
  uint64_t start = uint64_t{raw.first_sector} * kCdSectorSize;
  uint64_t length = 0;
  switch (entry.media) {
    case BootMedia::kNoEmulation:
      if (entry.load_bytes == 0) entry.load_bytes = kCdSectorSize;  // left out by some tools
      length = entry.load_bytes;
      break;
    case BootMedia::kFloppy1200K:
      length = 80 * 2 * 15 * kVirtualSector;
      break;
    case BootMedia::kFloppy1440K:
      length = 80 * 2 * 18 * kVirtualSector;
      break;
    case BootMedia::kFloppy2880K:
      length = 80 * 2 * 36 * kVirtualSector;
      break;
    case BootMedia::kHardDisk: {
      if (start >= cd_size) break;
      TRY(length, hard_disk_size(read, start));
      break;
    }
  }
  if (start == 0 || start >= cd_size) return not_bootable("its boot image lies outside of it");
  // The last image on a CD may be cut: what is missing cannot be read, the rest can.
  entry.image = {start, std::min(length, cd_size - start)};
  if (entry.media != BootMedia::kNoEmulation) entry.load_bytes = kVirtualSector;
  if (entry.image.length < entry.load_bytes) {
    return not_bootable("its boot image is cut off by the end of the CD");
  }
  return entry;
}

}  // namespace

Result<BootEntry> find_boot_entry(const CdReader& read, uint64_t cd_size) {
  TRY(uint32_t sector, find_catalogue(read, cd_size));
  uint64_t start = uint64_t{sector} * kCdSectorSize;
  if (start > cd_size || cd_size - start < kCdSectorSize) {
    return not_bootable("its boot catalogue lies outside of it");
  }
  Catalogue catalogue;
  TRY_VOID(read(start, catalogue));
  TRY_VOID(check_validation(catalogue));
  Choice choice = choose(catalogue);
  if (choice.found) return resolve(choice.entry, read, cd_size);
  return not_bootable(choice.efi ? "it boots by UEFI only, and this machine has a BIOS"
                                 : "its boot catalogue has no bootable entry for a BIOS");
}

}  // namespace calf::firmware
