// The text that says what a vmdk image is made of:
//
//     # Disk DescriptorFile
//     version=1
//     CID=b929419                      changes with the content
//     parentCID=ffffffff               CID of the image below; ffffffff: there is none
//     createType="twoGbMaxExtentSparse"
//     parentFileNameHint="base.vmdk"
//     RW 10240 SPARSE "disk-s001.vmdk"      access, sectors, kind, file name, first sector (FLAT)
//     ddb.adapterType = "ide"               (not of interest here)
//
// Whoever made the image wrote it: nothing is believed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/base/result.h"

namespace calf::vmdk {

constexpr uint32_t kNoParent = 0xffffffff;
constexpr size_t kMaxExtents = 4096;
constexpr size_t kMaxName = 1023;

enum class ExtentKind : uint8_t { kSparse, kFlat, kZero };

struct ExtentLine {
  ExtentKind kind = ExtentKind::kFlat;
  // As it stands there: SPARSE, FLAT, VMFS, …
  std::string kind_text;
  uint64_t sectors = 0;
  // A name in the folder of the descriptor; empty for kZero.
  std::string name;
  // FLAT: where the extent begins in the file.
  uint64_t first_sector = 0;
};

struct Descriptor {
  uint32_t cid = 0;
  uint32_t parent_cid = kNoParent;
  std::string create_type;
  std::optional<std::string> parent_hint;
  std::vector<ExtentLine> extents;
};

// Sums and positions fit in 63 bits. Extents of monolithicSparse and streamOptimized images name
// the file itself; their names are not checked, as nobody opens them.
Result<Descriptor> parse_descriptor(std::string_view text);

}  // namespace calf::vmdk
