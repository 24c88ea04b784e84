#include "firmware/boot/zero_page.h"

#include <algorithm>
#include <cstring>

namespace calf::firmware {
namespace {

constexpr size_t kExtMemK = 0x002;    // le16, KiB above 1 MiB, at most 64 MiB
constexpr size_t kAcpiRsdp = 0x070;   // le64
constexpr size_t kAltMemK = 0x1E0;    // le32, KiB above 1 MiB
constexpr size_t kE820Count = 0x1E8;  // byte
constexpr size_t kE820Table = 0x2D0;  // E820Entry[128]
constexpr size_t kE820MaxEntries = 128;

template <class T>
void put(std::vector<uint8_t>& page, size_t offset, const T& value) {
  std::memcpy(page.data() + offset, &value, sizeof value);
}

}  // namespace

SetupHeader make_setup_header() {
  SetupHeader header{};
  header.vid_mode = 0xFFFF;  // normal
  header.boot_flag = kBootFlag;
  header.header = kSetupMagic;
  header.version = 0x20F;
  header.loadflags = kLoadedHigh;
  header.initrd_addr_max = 0x7FFFFFFF;
  header.kernel_alignment = 0x200000;
  header.cmdline_size = 2047;
  return header;
}

Result<std::vector<uint8_t>> make_zero_page(SetupHeader header, const ZeroPageInfo& info,
                                            const MemoryMap& map) {
  std::vector<uint8_t> page(kPageSize);
  header.type_of_loader = kUnknownLoader;
  header.ext_loader_type = 0;
  header.ext_loader_ver = 0;
  header.cmd_line_ptr = info.command_line;
  header.ramdisk_image = static_cast<uint32_t>(info.initrd.offset);
  header.ramdisk_size = static_cast<uint32_t>(info.initrd.length);
  put(page, kSetupHeaderOffset, header);

  uint64_t above_1m = (map.ram_below_4g() - kOneMiB) / 1024;
  put(page, kExtMemK, le16(static_cast<uint16_t>(std::min<uint64_t>(above_1m, 0xFC00))));
  put(page, kAltMemK, le32(static_cast<uint32_t>(above_1m)));
  if (info.rsdp) put(page, kAcpiRsdp, le64(raw(*info.rsdp)));

  std::span<const E820Entry> entries = map.e820();
  if (entries.size() > kE820MaxEntries) {
    return make_error(ErrorKind::kResource, "{} memory ranges, Linux's zero page holds {}",
                      entries.size(), kE820MaxEntries);
  }
  page[kE820Count] = static_cast<uint8_t>(entries.size());
  std::memcpy(page.data() + kE820Table, entries.data(), entries.size_bytes());
  return page;
}

}  // namespace calf::firmware
