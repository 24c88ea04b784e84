// The header of a qcow2 file and its extensions, parsed from and written to the bytes of cluster 0.
//
//     0        header_length          backing_name_offset       cluster_size
//     | fields | extension | … | end | backing name | unused |
//
// Nothing here does I/O. parse_header() trusts nothing: every length is held against what is left
// of the cluster before it is used. Fields and extensions that are not known here survive a
// rewrite.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/base/result.h"
#include "block/qcow2/geometry.h"
#include "block/qcow2/image_info.h"

namespace calf::qcow2 {

struct Extension {
  uint32_t type = 0;
  std::vector<uint8_t> data;
};

struct Header {
  Geometry geometry;
  uint64_t size = 0;
  Encryption encryption = Encryption::kNone;
  uint32_t l1_entries = 0;
  uint64_t l1_offset = 0;
  uint64_t refcount_table_offset = 0;
  uint32_t refcount_table_clusters = 0;
  uint32_t snapshot_count = 0;
  uint64_t snapshots_offset = 0;
  uint64_t incompatible = 0;
  uint64_t compatible = 0;
  uint64_t autoclear = 0;
  Compression compression = Compression::kZlib;
  // Bytes of the header behind the fields known here.
  std::vector<uint8_t> unknown_fields;
  // In the order of the file; the backing format's is kept in step with `backing_format`.
  std::vector<Extension> extensions;
  std::optional<std::string> backing_name;
  std::optional<std::string> backing_format;
  // As recorded; only meant if the feature bit says so. Kept in `extensions`.
  std::optional<std::string> data_file_name() const;

  bool has(uint64_t incompatible_bit) const { return (incompatible & incompatible_bit) != 0; }
  const Extension* find(uint32_t type) const;
};

// How many bytes from the start of the file parse_header() wants: the cluster size, once the first
// bytes (at least kHeaderLengthV2) tell it. Checks magic, version and cluster size.
Result<uint64_t> header_area_size(std::span<const uint8_t> first_bytes);

// `cluster0` holds header_area_size() bytes, or all of a shorter file. Refuses unknown incompatible
// features by name. The tables' places are checked by validate_tables().
Result<Header> parse_header(std::span<const uint8_t> cluster0);

// Holds sizes, alignment and places of the tables against the limits and the file. The snapshot
// table is left out for who repairs it.
Result<void> validate_tables(const Header& header, uint64_t file_size, bool with_snapshots = true);
Result<void> validate_snapshot_table(const Header& header, uint64_t file_size);

// The bytes from offset 0 to the end of the backing name. An error if they exceed the cluster.
// Makes a feature name table if there is none and room is left.
Result<std::vector<uint8_t>> serialize_header(const Header& header);

// The same up to the end of the extensions, with the backing name at `name_offset` and without the
// feature name table, which nobody needs to read an image.
std::vector<uint8_t> serialize_short_header(const Header& header, uint64_t name_offset);

// Puts the values that change while an image is open (size, places of tables, feature bits) into
// `raw`, the first bytes of the file as they were read: 72 of version 2, at least 104 of version 3.
// All other bytes stay.
void patch_fields(const Header& header, std::span<uint8_t> raw);

}  // namespace calf::qcow2
