// The bitmap directory: which persistent bitmaps the image has, and where their tables stand.
//
//     header extension ──> directory  | entry, name, padding | entry, name, padding | …
//                                         │
//                                      table  | place of a cluster of bits | 0: zeroes | 1: ones |
//                                      …
//
// Nothing in it is trusted: counts and lengths are held against the limits and the file. Extra data
// of an entry, and flags that are not known here, are refused, as QEMU does.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "block/qcow2/header.h"
#include "block/qcow2/host_file.h"

namespace calf::qcow2 {

// From the header extension, if the autoclear bit says that it can be believed.
struct BitmapDirectoryPlace {
  uint32_t count = 0;
  ByteRange range;
};
Result<std::optional<BitmapDirectoryPlace>> bitmap_directory_place(const Header& header,
                                                                   uint64_t file_size);
Extension make_bitmaps_extension(BitmapDirectoryPlace place);

struct BitmapEntry {
  BitmapInfo info;
  uint64_t table_offset = 0;
  uint32_t table_entries = 0;

  ByteRange table() const { return {table_offset, uint64_t{table_entries} * 8}; }
};
Async<std::vector<BitmapEntry>> read_bitmap_directory(HostFile& file, const Header& header,
                                                      BitmapDirectoryPlace place);
std::vector<uint8_t> serialize_bitmap_directory(const std::vector<BitmapEntry>& entries);

// Where the flags of entry `index` stand in the directory's bytes. (In one sector: they can be
// written in place.)
uint64_t bitmap_flags_offset(const std::vector<BitmapEntry>& entries, size_t index);
uint32_t bitmap_flags(const BitmapInfo& info);

}  // namespace calf::qcow2
