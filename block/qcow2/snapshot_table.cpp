#include "block/qcow2/snapshot_table.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "block/qcow2/table_reader.h"

namespace calf::qcow2 {
namespace {

// Up to the first NUL, as other programs take it: nobody can type what comes after one.
std::string text(const uint8_t* bytes, size_t length) {
  const auto* end = std::find(bytes, bytes + length, 0);
  return {bytes, end};
}

constexpr uint32_t kExtraOfVersion3 = 16;

// `raw`, and what follows it in the table: `extra_bytes` of extra data, the ID, the name.
SnapshotInfo decode(const format::SnapshotEntry& raw, const uint8_t* bytes, uint64_t image_size,
                    uint32_t extra_bytes) {
  format::SnapshotExtra extra{};
  const size_t known = std::min<size_t>(extra_bytes, sizeof extra);
  // There may be nothing, and no pointer to it.
  std::copy_n(bytes, known, reinterpret_cast<uint8_t*>(&extra));
  SnapshotInfo info;
  info.l1_offset = raw.l1_offset;
  info.l1_entries = raw.l1_entries;
  info.date_sec = raw.date_sec;
  info.date_nsec = raw.date_nsec;
  info.vm_clock_nsec = raw.vm_clock_nsec;
  info.vm_state_size = known >= 8 ? extra.vm_state_size.value() : raw.vm_state_size.value();
  info.disk_size = known >= 16 ? extra.disk_size.value() : image_size;
  if (known >= 24 && extra.icount != UINT64_MAX) info.icount = extra.icount;
  info.unknown_extra.assign(bytes + known, bytes + extra_bytes);
  bytes += extra_bytes;
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

// What follows `raw` in the table, without the extra data that is too much. Such a length is wrong,
// and the ID and name are not where it says, so they may be anything; what counts is that the
// snapshot's tables stay in use.
Async<bool> take_rest(TableReader& reader, const format::SnapshotEntry& raw,
                      std::vector<uint8_t>* out) {
  const uint32_t extra = std::min<uint32_t>(raw.extra_data_length, format::kMaxSnapshotExtra);
  const uint32_t excess = raw.extra_data_length - extra;
  const size_t names = size_t{raw.id_length} + raw.name_length;
  const uint8_t* bytes = nullptr;
  if (excess > format::kMaxSnapshotTableBytes) co_return false;
  if (excess == 0) {
    CO_TRY(bool there, co_await reader.take(extra + names, &bytes));
    if (there) out->assign(bytes, bytes + extra + names);
    co_return there;
  }
  CO_TRY(bool more, co_await reader.take_padded(extra, &bytes));
  if (!more) co_return false;
  out->assign(bytes, bytes + extra);
  reader.skip(excess);
  CO_TRY(more, co_await reader.take_padded(names, &bytes));
  if (more) out->insert(out->end(), bytes, bytes + names);
  co_return more;
}

}  // namespace

Async<SnapshotTable> read_snapshot_table(HostFile& file, const Header& header,
                                         SnapshotTableRepair* repair) {
  SnapshotTable table;
  TableReader reader(file, header.snapshots_offset, format::kMaxSnapshotTableBytes);
  const uint8_t* bytes = nullptr;
  bool sure = true;
  for (uint32_t i = 0; i < header.snapshot_count; ++i) {
    table.bytes = reader.used();
    if (sure) table.sure_bytes = table.bytes;
    CO_TRY(bool more, co_await reader.take(sizeof(format::SnapshotEntry), &bytes));
    format::SnapshotEntry raw{};
    if (more) std::memcpy(&raw, bytes, sizeof raw);
    const bool excess = raw.extra_data_length > format::kMaxSnapshotExtra;
    if (excess && repair == nullptr) co_return too_much_extra_data(i);
    std::vector<uint8_t> rest;
    if (more) {
      CO_TRY(more, co_await take_rest(reader, raw, &rest));
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
      if (sure) table.sure_bytes += sizeof raw;
      sure = false;
    }
    if (raw.extra_data_length < kExtraOfVersion3) table.incomplete.push_back(i);
    const uint32_t extra = excess ? format::kMaxSnapshotExtra : raw.extra_data_length.value();
    table.entries.push_back(decode(raw, rest.data(), header.size, extra));
    reader.align();
  }
  table.bytes = reader.used();
  if (sure) table.sure_bytes = table.bytes;
  // What a wrong length covers behind the end of the file is nothing to count, or to free.
  const uint64_t there = file.size() - std::min(header.snapshots_offset, file.size());
  if (!sure && table.bytes > there) table.bytes = std::max(there, table.sure_bytes);
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
