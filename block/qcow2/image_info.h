// What a qcow2 file says about itself: plain values for `info`, `check` and the graph. Nothing here
// reads or writes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "block/crypto/luks_header.h"

namespace calf::qcow2 {

enum class Compression : uint8_t { kZlib = 0, kZstd = 1 };
enum class Encryption : uint8_t { kNone = 0, kAes = 1, kLuks = 2 };

// "zlib", "zstd": the words of qemu-img.
const char* to_string(Compression compression);

// One entry of the snapshot table.
struct SnapshotInfo {
  std::string id;
  std::string name;
  uint32_t date_sec = 0;
  uint32_t date_nsec = 0;
  uint64_t vm_clock_nsec = 0;
  uint64_t vm_state_size = 0;
  // The virtual size when the snapshot was taken (the image's own, if the entry does not say).
  uint64_t disk_size = 0;
  // Instructions executed, where the writer recorded them.
  std::optional<uint64_t> icount;
  // Where the snapshot's L1 table stands and how many entries it has.
  uint64_t l1_offset = 0;
  uint32_t l1_entries = 0;
  // Extra data behind the fields known here; it survives a rewrite of the table.
  std::vector<uint8_t> unknown_extra;
};

// One entry of the bitmap directory.
struct BitmapInfo {
  std::string name;
  uint8_t granularity_bits = 0;
  bool in_use = false;
  bool automatic = false;
};

struct ImageInfo {
  // 2 (compat 0.10) or 3 (compat 1.1).
  unsigned version = 3;
  uint64_t virtual_size = 0;
  uint32_t cluster_size = 0;
  unsigned refcount_bits = 16;
  Compression compression = Compression::kZlib;
  Encryption encryption = Encryption::kNone;
  // Of Encryption::kLuks.
  std::optional<crypto::LuksHeader> luks;
  bool lazy_refcounts = false;
  bool dirty = false;
  bool corrupt = false;
  bool extended_l2 = false;
  bool has_data_file = false;
  bool data_file_raw = false;
  std::optional<std::string> data_file;
  std::optional<std::string> backing_name;
  std::optional<std::string> backing_format;
  std::vector<SnapshotInfo> snapshots;
  std::vector<BitmapInfo> bitmaps;
};

}  // namespace calf::qcow2
