// Makes sparse vmdk files in memory, good ones; tests break them.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "block/vmdk/format.h"

namespace calf::test {

struct VmdkFile {
  static constexpr uint64_t kGrain = 4096;
  static constexpr uint64_t kTableSector = 3;
  static constexpr uint64_t kDataSector = 8;

  vmdk::format::SparseHeader header;
  std::string descriptor =
      "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\n"
      "createType=\"monolithicSparse\"\nRW 64 SPARSE \"x.vmdk\"\n";
  // Entries of the only grain table.
  std::vector<le32> table = std::vector<le32>(8);
  // From kDataSector on.
  std::string data;

  // 32 KiB in grains of 4 KiB.
  VmdkFile() {
    header.magic = vmdk::format::kMagic;
    header.version = 1U;
    header.flags = vmdk::format::kNewlineTest;
    header.capacity = uint64_t{64};
    header.grain_size = kGrain / 512;
    header.descriptor_offset = uint64_t{1};
    header.descriptor_size = uint64_t{1};
    header.table_entries = 8U;
    header.directory_offset = uint64_t{2};
    const uint8_t ends[] = {'\n', ' ', '\r', '\n'};
    std::memcpy(header.line_ends, ends, sizeof ends);
  }

  // Where the next data goes.
  uint32_t next_sector() const { return static_cast<uint32_t>(kDataSector + data.size() / 512); }

  std::string bytes() const {
    std::string out(kDataSector * 512, '\0');
    std::memcpy(out.data(), &header, sizeof header);
    std::memcpy(out.data() + 512, descriptor.data(), std::min<size_t>(descriptor.size(), 512));
    le32 directory = static_cast<uint32_t>(kTableSector);
    std::memcpy(out.data() + 1024, &directory, sizeof directory);
    std::memcpy(out.data() + kTableSector * 512, table.data(), table.size() * sizeof(le32));
    return out + data;
  }
};

}  // namespace calf::test
