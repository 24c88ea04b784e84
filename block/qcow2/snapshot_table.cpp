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

constexpr uint32_t kExtraOfVersion3 = 16;

// `raw`, and what follows it in the table.
SnapshotInfo decode(const format::SnapshotEntry& raw, const uint8_t* bytes, uint64_t image_size,
                    bool keep_unknown) {
  format::SnapshotExtra extra{};
  const size_t known = std::min<size_t>(raw.extra_data_length, sizeof extra);
  std::memcpy(&extra, bytes, known);
  SnapshotInfo info;
  info.l1_offset = raw.l1_offset;
  info.l1_entries = raw.l1_entries;
  info.date_sec = raw.date_sec;
  info.date_nsec = raw.date_nsec;
  info.vm_clock_nsec = raw.vm_clock_nsec;
  info.vm_state_size = known >= 8 ? extra.vm_state_size.value() : raw.vm_state_size.value();
  info.disk_size = known >= 16 ? extra.disk_size.value() : image_size;
  if (known >= 24 && extra.icount != UINT64_MAX) info.icount = extra.icount;
  if (keep_unknown && raw.extra_data_length > known) {
    info.unknown_extra.assign(bytes + known, bytes + raw.extra_data_length);
  }
  bytes += raw.extra_data_length;
  info.id = text(bytes, raw.id_length);
  info.name = text(bytes + raw.id_length, raw.name_length);
  return info;
}

Error too_much_extra_data(uint32_t index) {
  return Error(ErrorKind::kCorrupt, EFBIG,
               fmt::format("Too much extra metadata in snapshot table entry {}\n"
                           "You can force-remove this extra metadata with qemu-img check -r all",
                           index));
}

Error too_big(uint32_t overhanging) {
  return Error(ErrorKind::kCorrupt, EFBIG,
               fmt::format("Snapshot table is too big\n"
                           "You can force-remove all {} overhanging snapshots with qemu-img check "
                           "-r all",
                           overhanging));
}

}  // namespace

Async<SnapshotTable> read_snapshot_table(HostFile& file, const Header& header,
                                         SnapshotTableRepair* repair) {
  SnapshotTable table;
  TableReader reader(file, header.snapshots_offset, format::kMaxSnapshotTableBytes);
  const uint8_t* bytes = nullptr;
  for (uint32_t i = 0; i < header.snapshot_count; ++i) {
    table.bytes = reader.used();
    CO_TRY(bool more, co_await reader.take(sizeof(format::SnapshotEntry), &bytes));
    format::SnapshotEntry raw{};
    if (more) std::memcpy(&raw, bytes, sizeof raw);
    const bool excess = raw.extra_data_length > format::kMaxSnapshotExtra;
    if (excess && repair == nullptr) co_return too_much_extra_data(i);
    size_t rest = size_t{raw.extra_data_length} + raw.id_length + raw.name_length;
    if (more) {
      CO_TRY(more, co_await reader.take(rest, &bytes));
    }
    if (!more) {
      const uint32_t overhanging = header.snapshot_count - i;
      if (repair == nullptr) co_return too_big(overhanging);
      repair->sink(fmt::format("Discarding {} overhanging snapshots (snapshot table is too big)",
                               overhanging));
      repair->dropped_entries += overhanging;
      co_return table;
    }
    if (excess) {
      repair->sink(
          fmt::format("Discarding too much extra metadata in snapshot table entry {} ({} > {})", i,
                      raw.extra_data_length.value(), format::kMaxSnapshotExtra));
      ++repair->dropped_extra_data;
    }
    if (raw.extra_data_length < kExtraOfVersion3) table.incomplete.push_back(i);
    table.entries.push_back(decode(raw, bytes, header.size, !excess));
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
