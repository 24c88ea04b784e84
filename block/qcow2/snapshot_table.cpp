#include "block/qcow2/snapshot_table.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "block/qcow2/table_reader.h"

namespace calf::qcow2 {
namespace {

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

}  // namespace calf::qcow2
