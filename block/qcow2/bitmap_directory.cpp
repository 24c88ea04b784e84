#include "block/qcow2/bitmap_directory.h"

#include <cstring>
#include <set>

#include "block/qcow2/table_reader.h"

namespace calf::qcow2 {
namespace {

using format::BitmapDirectoryEntry;

constexpr uint8_t kDirtyTracking = 1;

uint64_t entry_bytes(const BitmapEntry& entry) {
  return align_up(sizeof(BitmapDirectoryEntry) + entry.info.name.size(), 8);
}

bool is_sane(const BitmapDirectoryEntry& raw, const Geometry& g) {
  return raw.type == kDirtyTracking && raw.granularity_bits >= format::kMinBitmapGranularity &&
         raw.granularity_bits <= format::kMaxBitmapGranularity && raw.name_length != 0 &&
         raw.extra_data_length == 0 &&
         (raw.flags & ~(format::kBitmapInUse | format::kBitmapAuto)) == 0 &&
         g.is_cluster_aligned(raw.table_offset) && raw.table_offset < format::kMaxHostOffset &&
         (raw.table_offset != 0 || raw.table_entries == 0) &&
         raw.table_entries <= format::kMaxBitmapBytes / g.cluster_size();
}

BitmapEntry to_entry(const BitmapDirectoryEntry& raw, std::string name) {
  BitmapEntry entry;
  entry.info.name = std::move(name);
  entry.info.granularity_bits = raw.granularity_bits;
  entry.info.in_use = (raw.flags & format::kBitmapInUse) != 0;
  entry.info.automatic = (raw.flags & format::kBitmapAuto) != 0;
  entry.table_offset = raw.table_offset;
  entry.table_entries = raw.table_entries;
  return entry;
}

}  // namespace

Result<std::optional<BitmapDirectoryPlace>> bitmap_directory_place(const Header& header,
                                                                   uint64_t file_size) {
  if (header.geometry.version < 3 || (header.autoclear & format::kBitmaps) == 0) {
    return std::optional<BitmapDirectoryPlace>();
  }
  const Extension* extension = header.find(format::kExtBitmaps);
  if (extension == nullptr || extension->data.size() != sizeof(format::BitmapsExtension)) {
    return make_error(ErrorKind::kCorrupt, "bitmaps_ext: Invalid extension length");
  }
  format::BitmapsExtension raw;
  std::memcpy(&raw, extension->data.data(), sizeof raw);
  if (raw.count == 0 || raw.count > format::kMaxBitmaps) {
    return make_error(ErrorKind::kCorrupt, "bitmaps_ext: invalid number of bitmaps: {}",
                      raw.count.value());
  }
  if (raw.reserved != 0 || raw.directory_size > format::kMaxBitmapDirectoryBytes ||
      !header.geometry.is_cluster_aligned(raw.directory_offset) || raw.directory_offset == 0 ||
      raw.directory_offset > file_size || raw.directory_size > file_size - raw.directory_offset) {
    return make_error(ErrorKind::kCorrupt, "bitmaps_ext: invalid bitmap directory");
  }
  return std::optional(BitmapDirectoryPlace{raw.count, {raw.directory_offset, raw.directory_size}});
}

Extension make_bitmaps_extension(BitmapDirectoryPlace place) {
  format::BitmapsExtension raw{place.count, 0, place.range.length, place.range.offset};
  auto* bytes = reinterpret_cast<const uint8_t*>(&raw);
  return {format::kExtBitmaps, {bytes, bytes + sizeof raw}};
}

Async<std::vector<BitmapEntry>> read_bitmap_directory(HostFile& file, const Header& header,
                                                      BitmapDirectoryPlace place) {
  std::vector<BitmapEntry> out;
  std::set<std::string> names;
  TableReader reader(file, place.range.offset, place.range.length);
  const uint8_t* bytes = nullptr;
  for (uint32_t i = 0; i < place.count; ++i) {
    CO_TRY(bool more, co_await reader.take(sizeof(BitmapDirectoryEntry), &bytes));
    if (!more) co_return make_error(ErrorKind::kCorrupt, "Broken bitmap directory");
    BitmapDirectoryEntry raw;
    std::memcpy(&raw, bytes, sizeof raw);
    if (raw.name_length > format::kMaxBitmapName || raw.extra_data_length > place.range.length) {
      co_return make_error(ErrorKind::kCorrupt, "Broken bitmap directory");
    }
    size_t rest = size_t{raw.extra_data_length} + raw.name_length;
    CO_TRY(more, co_await reader.take(rest, &bytes));
    if (!more) co_return make_error(ErrorKind::kCorrupt, "Broken bitmap directory");
    std::string name(reinterpret_cast<const char*>(bytes) + raw.extra_data_length, raw.name_length);
    if (!is_sane(raw, header.geometry)) {
      co_return make_error(ErrorKind::kCorrupt, "Bitmap '{}' doesn't satisfy the constraints",
                           name);
    }
    if (!names.insert(name).second) {
      co_return make_error(ErrorKind::kCorrupt, "Bitmap '{}' is there more than once", name);
    }
    out.push_back(to_entry(raw, std::move(name)));
    reader.align();
  }
  co_return out;
}

uint32_t bitmap_flags(const BitmapInfo& info) {
  return (info.in_use ? format::kBitmapInUse : 0) | (info.automatic ? format::kBitmapAuto : 0);
}

std::vector<uint8_t> serialize_bitmap_directory(const std::vector<BitmapEntry>& entries) {
  std::vector<uint8_t> out;
  for (const BitmapEntry& entry : entries) {
    BitmapDirectoryEntry raw{};
    raw.table_offset = entry.table_offset;
    raw.table_entries = entry.table_entries;
    raw.flags = bitmap_flags(entry.info);
    raw.type = kDirtyTracking;
    raw.granularity_bits = entry.info.granularity_bits;
    raw.name_length = static_cast<uint16_t>(entry.info.name.size());
    auto* bytes = reinterpret_cast<const uint8_t*>(&raw);
    out.insert(out.end(), bytes, bytes + sizeof raw);
    out.insert(out.end(), entry.info.name.begin(), entry.info.name.end());
    out.resize(align_up(out.size(), 8));
  }
  return out;
}

uint64_t bitmap_flags_offset(const std::vector<BitmapEntry>& entries, size_t index) {
  uint64_t offset = offsetof(BitmapDirectoryEntry, flags);
  for (size_t i = 0; i < index; ++i)
    offset += entry_bytes(entries[i]);
  return offset;
}

}  // namespace calf::qcow2
