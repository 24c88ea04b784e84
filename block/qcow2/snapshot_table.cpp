#include "block/qcow2/snapshot_table.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace calf::qcow2 {
namespace {

// A table that is read piece by piece, as far as it turns out to reach.
class TableReader {
 public:
  TableReader(HostFile& file, uint64_t offset, uint64_t max_bytes)
      : file_(file), offset_(offset), limit_(max_bytes) {
    uint64_t left = file.size() > offset ? file.size() - offset : 0;
    limit_ = std::min(limit_, left);
  }

  // The next `length` bytes, or false if the table would exceed the limit or the file.
  Async<bool> take(size_t length, const uint8_t** out) {
    if (length > limit_ - used_) co_return false;
    if (used_ + length > bytes_.size()) {
      uint64_t had = bytes_.size();
      uint64_t want = std::min<uint64_t>(std::max<uint64_t>(used_ + length, had + 65536), limit_);
      bytes_.resize(want);
      CO_TRY_VOID(co_await file_.read_bytes(offset_ + had, std::span(bytes_).subspan(had)));
    }
    *out = bytes_.data() + used_;
    used_ += length;
    co_return true;
  }
  // Entries are padded; the last one's padding may be missing.
  void align() { used_ = std::min<uint64_t>(align_up(used_, 8), limit_); }
  uint64_t used() const { return used_; }

 private:
  HostFile& file_;
  uint64_t offset_;
  uint64_t limit_;
  uint64_t used_ = 0;
  std::vector<uint8_t> bytes_;
};

std::string text(const uint8_t* bytes, size_t length) {
  return {reinterpret_cast<const char*>(bytes), length};
}

}  // namespace

Async<SnapshotTable> read_snapshot_table(HostFile& file, const Header& header) {
  SnapshotTable table;
  TableReader reader(file, header.snapshots_offset, format::kMaxSnapshotTableBytes);
  const uint8_t* bytes = nullptr;
  for (uint32_t i = 0; i < header.snapshot_count; ++i) {
    CO_TRY(bool more, co_await reader.take(sizeof(format::SnapshotEntry), &bytes));
    if (!more) co_return make_error(ErrorKind::kCorrupt, "Snapshot table is too big");
    format::SnapshotEntry raw;
    std::memcpy(&raw, bytes, sizeof raw);
    if (raw.extra_data_length > format::kMaxSnapshotExtra) {
      co_return make_error(ErrorKind::kCorrupt,
                           "Too much extra metadata in snapshot table entry {}", i);
    }
    size_t rest = size_t{raw.extra_data_length} + raw.id_length + raw.name_length;
    CO_TRY(more, co_await reader.take(rest, &bytes));
    if (!more) co_return make_error(ErrorKind::kCorrupt, "Snapshot table is too big");
    format::SnapshotExtra extra{};
    size_t known = std::min<size_t>(raw.extra_data_length, sizeof extra);
    std::memcpy(&extra, bytes, known);

    SnapshotInfo info;
    info.l1_offset = raw.l1_offset;
    info.l1_entries = raw.l1_entries;
    info.date_sec = raw.date_sec;
    info.date_nsec = raw.date_nsec;
    info.vm_clock_nsec = raw.vm_clock_nsec;
    info.vm_state_size = known >= 8 ? extra.vm_state_size.value() : raw.vm_state_size.value();
    info.disk_size = known >= 16 ? extra.disk_size.value() : header.size;
    if (known >= 24 && extra.icount != UINT64_MAX) info.icount = extra.icount;
    if (raw.extra_data_length > known) {
      info.unknown_extra.assign(bytes + known, bytes + raw.extra_data_length);
    }
    bytes += raw.extra_data_length;
    info.id = text(bytes, raw.id_length);
    info.name = text(bytes + raw.id_length, raw.name_length);
    table.entries.push_back(std::move(info));
    reader.align();
  }
  table.bytes = reader.used();
  co_return table;
}

Result<std::vector<uint8_t>> serialize_snapshot_table(const std::vector<SnapshotInfo>& entries) {
  Error too_large = Error::from_errno(EFBIG, "The snapshot table has reached its largest size");
  if (entries.size() > format::kMaxSnapshots) return too_large;
  std::vector<uint8_t> out;
  auto put = [&out](const void* data, size_t size) {
    auto* bytes = static_cast<const uint8_t*>(data);
    out.insert(out.end(), bytes, bytes + size);
  };
  for (const SnapshotInfo& info : entries) {
    format::SnapshotEntry raw{};
    raw.l1_offset = info.l1_offset;
    raw.l1_entries = info.l1_entries;
    raw.id_length = static_cast<uint16_t>(info.id.size());
    raw.name_length = static_cast<uint16_t>(info.name.size());
    raw.date_sec = info.date_sec;
    raw.date_nsec = info.date_nsec;
    raw.vm_clock_nsec = info.vm_clock_nsec;
    // Who knows only the old field takes a larger state for none rather than for half of one.
    raw.vm_state_size =
        info.vm_state_size <= UINT32_MAX ? static_cast<uint32_t>(info.vm_state_size) : 0;
    format::SnapshotExtra extra{};
    extra.vm_state_size = info.vm_state_size;
    extra.disk_size = info.disk_size;
    extra.icount = info.icount.value_or(UINT64_MAX);
    raw.extra_data_length = static_cast<uint32_t>(sizeof extra + info.unknown_extra.size());
    put(&raw, sizeof raw);
    put(&extra, sizeof extra);
    put(info.unknown_extra.data(), info.unknown_extra.size());
    put(info.id.data(), info.id.size());
    put(info.name.data(), info.name.size());
    out.resize(align_up(out.size(), 8));
    if (out.size() > format::kMaxSnapshotTableBytes) return too_large;
  }
  return out;
}

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

Async<std::vector<BitmapEntry>> read_bitmap_directory(HostFile& file, const Header& header,
                                                      BitmapDirectoryPlace place) {
  std::vector<BitmapEntry> out;
  TableReader reader(file, place.range.offset, place.range.length);
  const uint8_t* bytes = nullptr;
  for (uint32_t i = 0; i < place.count; ++i) {
    CO_TRY(bool more, co_await reader.take(sizeof(format::BitmapDirectoryEntry), &bytes));
    if (!more) co_return make_error(ErrorKind::kCorrupt, "Broken bitmap directory");
    format::BitmapDirectoryEntry raw;
    std::memcpy(&raw, bytes, sizeof raw);
    if (raw.name_length > format::kMaxBitmapName || raw.extra_data_length > place.range.length) {
      co_return make_error(ErrorKind::kCorrupt, "Broken bitmap directory");
    }
    size_t rest = size_t{raw.extra_data_length} + raw.name_length;
    CO_TRY(more, co_await reader.take(rest, &bytes));
    if (!more) co_return make_error(ErrorKind::kCorrupt, "Broken bitmap directory");
    BitmapEntry entry;
    entry.info.name = text(bytes + raw.extra_data_length, raw.name_length);
    entry.info.granularity_bits = raw.granularity_bits;
    entry.info.in_use = (raw.flags & format::kBitmapInUse) != 0;
    entry.info.automatic = (raw.flags & format::kBitmapAuto) != 0;
    entry.table_offset = raw.table_offset;
    entry.table_entries = raw.table_entries;
    bool sane = raw.type == 1 && raw.granularity_bits >= 9 && raw.granularity_bits <= 31 &&
                raw.name_length != 0 && header.geometry.is_cluster_aligned(raw.table_offset) &&
                raw.table_offset < format::kMaxHostOffset &&
                raw.table_entries <= format::kMaxBitmapBytes / header.geometry.cluster_size();
    if (!sane) {
      co_return make_error(ErrorKind::kCorrupt, "Bitmap '{}' doesn't satisfy the constraints",
                           entry.info.name);
    }
    out.push_back(std::move(entry));
    reader.align();
  }
  co_return out;
}

}  // namespace calf::qcow2
