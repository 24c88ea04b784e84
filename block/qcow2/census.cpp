#include "block/qcow2/census.h"

#include <algorithm>
#include <map>

namespace calf::qcow2 {

std::vector<uint64_t> References::page_numbers() const {
  std::vector<uint64_t> out;
  out.reserve(pages_.size());
  for (const auto& [number, page] : pages_)
    out.push_back(number);
  std::sort(out.begin(), out.end());
  return out;
}

Async<bool> is_hole(HostFile& file, ByteRange range) {
  uint64_t size = file.size();
  if (range.offset >= size) co_return true;
  ByteRange inside = range.intersect({0, size});
  CO_TRY(block::Extent extent, co_await file.node().map(inside));
  co_return extent.zero && !extent.data && extent.range.length >= inside.length;
}

Async<> Census::run() {
  const Header& header = state_.header.get();
  count_region(0, g_.cluster_size(), 1);
  CO_TRY_VOID(co_await count_l1(header.l1_offset, header.l1_entries, true, 1));
  CO_TRY_VOID(co_await count_snapshots());
  CO_TRY_VOID(co_await count_l2_tables());
  CO_TRY_VOID(co_await count_bitmaps());
  count_refcount_blocks();
  co_return Result<void>();
}

void Census::count_region(uint64_t offset, uint64_t length, uint64_t times) {
  if (length == 0) return;
  const uint64_t file_size = state_.file.size();
  // The last cluster of a file may be there in part.
  if (offset + length > file_size && offset + length - file_size >= g_.cluster_size()) {
    corruption(
        "ERROR: counting reference for region exceeding the end of the file by one cluster or "
        "more: offset {:#x} size {:#x}",
        offset, length);
    return;
  }
  const uint64_t last = g_.cluster_index(offset + length - 1);
  for (uint64_t cluster = g_.cluster_index(offset); cluster <= last; ++cluster)
    references_.add(cluster, times);
}

// A sparse file can claim any number of empty tables for nothing. Those that a real image has are
// few.
Async<bool> Census::count_large_table(ByteRange range, uint64_t times) {
  CO_TRY(bool hole, co_await is_hole(state_.file, range));
  if (hole) {
    constexpr uint64_t kMaxHoleClusters = uint64_t{1} << 21;
    hole_clusters_ += g_.clusters_for(range.length);
    if (hole_clusters_ > kMaxHoleClusters) {
      ++result_.check_errors;
      sink_(fmt::format("ERROR: too many tables in holes of the file; not counted: offset={:#x}",
                        range.offset));
      co_return false;
    }
  }
  count_region(range.offset, range.length, times);
  co_return !hole;
}

Async<> Census::count_l1(uint64_t offset, uint64_t entries, bool active, uint64_t times) {
  if (entries == 0) co_return Result<void>();
  ByteRange range{offset, entries * 8};
  CO_TRY(bool has_content, co_await count_large_table(range, times));
  if (!has_content) co_return Result<void>();
  std::vector<be64> raw(entries);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(raw.data()), entries * 8);
  CO_TRY_VOID(co_await state_.file.read_bytes(offset, bytes));
  for (uint64_t value : raw) {
    if (value == 0) continue;
    L1Entry entry = L1Entry::decode(value);
    if (entry.reserved_bits) {
      corruption("ERROR found L1 entry with reserved bits set: {:x}", value);
    }
    if (entry.offset == 0) continue;
    if (!g_.is_cluster_aligned(entry.offset)) {
      corruption("ERROR l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted",
                 entry.offset);
      continue;
    }
    auto [it, is_new] = tables_.try_emplace(entry.offset);
    if (is_new) table_order_.push_back(entry.offset);
    it->second.total += times;
    if (active) it->second.active += times;
  }
  co_return Result<void>();
}

Async<> Census::count_snapshots() {
  const Header& header = state_.header.get();
  if (header.snapshot_count == 0) co_return Result<void>();
  CO_TRY(SnapshotTable table, co_await read_snapshot_table(state_.file, header));
  count_region(header.snapshots_offset, table.bytes, 1);
  // Snapshots that share an L1 table cannot be, but would be a cheap way to make us read for hours.
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> distinct;
  for (const SnapshotInfo& snapshot : table.entries) {
    if (!g_.is_cluster_aligned(snapshot.l1_offset)) {
      corruption(
          "ERROR snapshot {} ({}) l1_offset={:#x}: L1 table is not cluster aligned; "
          "snapshot table entry corrupted",
          snapshot.id, snapshot.name, snapshot.l1_offset);
      continue;
    }
    if (snapshot.l1_entries > format::kMaxL1Bytes / 8) {
      corruption(
          "ERROR snapshot {} ({}) l1_size={:#x}: L1 table is too large; snapshot table "
          "entry corrupted",
          snapshot.id, snapshot.name, snapshot.l1_entries);
      continue;
    }
    ++distinct[{snapshot.l1_offset, snapshot.l1_entries}];
  }
  for (auto [place, times] : distinct) {
    uint64_t offset = place.first;
    uint64_t entries = place.second;
    uint64_t file_size = state_.file.size();
    if (offset >= file_size) {
      count_region(offset, entries * 8, times);
      continue;
    }
    entries = std::min(entries, div_round_up(file_size - offset, 8));
    CO_TRY_VOID(co_await count_l1(offset, entries, false, times));
  }
  co_return Result<void>();
}

// Each table is read once, however many L1 entries point to it: its references count that often.
Async<> Census::count_l2_tables() {
  std::vector<be64> raw(g_.cluster_size() / 8);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(raw.data()), g_.cluster_size());
  for (uint64_t offset : table_order_) {
    const TableUse use = tables_[offset];
    count_region(offset, g_.cluster_size(), use.total);
    ByteRange range{offset, g_.cluster_size()};
    CO_TRY(bool hole, co_await is_hole(state_.file, range));
    if (hole) continue;
    Result<void> read = co_await state_.file.read_bytes(offset, bytes);
    if (!read.ok()) {
      ++result_.check_errors;
      sink_(fmt::format("ERROR: I/O error in L2 table at offset {:#x}: {}", offset,
                        read.error().message()));
      continue;
    }
    count_l2_table(raw, use);
  }
  co_return Result<void>();
}

void Census::count_compressed(RawL2Entry raw, const L2Entry& entry, uint64_t index, TableUse use) {
  if (entry.copied) {
    corruption("ERROR: coffset={:#x}: copied flag must never be set for compressed clusters",
               entry.offset);
  }
  if (g_.external_data) {
    corruption("ERROR compressed cluster {} with data file, entry={:#x}", index, raw.descriptor);
    return;
  }
  if (raw.subclusters != 0) {
    corruption(
        "ERROR compressed cluster {} with non-zero subcluster allocation bitmap, entry={:#x}",
        index, raw.descriptor);
    return;
  }
  if (entry.kind == ClusterKind::kInvalid) {
    corruption("ERROR offset={:x}: Compressed cluster is out of range; L2 entry corrupted.",
               entry.offset);
    return;
  }
  uint64_t begin = align_down(entry.offset, 512);
  count_region(begin, entry.offset + entry.compressed_length - begin, use.total);
  result_.allocated_clusters += use.active;
  result_.compressed_clusters += use.active;
  result_.fragmented_clusters += use.active;
}

bool Census::examine_entry(RawL2Entry raw, const L2Entry& entry) {
  const bool has_zero_flag = g_.version >= 3 && !g_.extended_l2;
  const uint64_t reserved = format::kL2Reserved | (has_zero_flag ? 0 : format::kZero);
  if ((raw.descriptor & reserved) != 0) {
    corruption("ERROR found l2 entry with reserved bits set: {:x}", raw.descriptor);
  }
  if (entry.placed && (entry.data_mask & entry.zero_mask) != 0) {
    corruption("ERROR offset={:x}: Allocated cluster has corrupted subcluster allocation bitmap",
               entry.offset);
    return false;
  }
  if (!entry.placed && entry.data_mask != 0) {
    corruption("ERROR: Unallocated cluster has non-zero subcluster allocation map");
    return false;
  }
  if (entry.kind == ClusterKind::kInvalid) {
    corruption("ERROR offset={:x}: {} cluster is not properly aligned; L2 entry corrupted.",
               entry.offset, entry.data_mask == 0 ? "Preallocated" : "Data");
    return false;
  }
  return true;
}

void Census::count_l2_table(const std::vector<be64>& words, TableUse use) {
  uint64_t next_contiguous = 0;
  for (uint64_t i = 0; i < g_.l2_entries(); ++i) {
    const RawL2Entry raw = load_l2_entry(words.data(), i, g_);
    if (raw.empty()) continue;
    const L2Entry entry = L2Entry::decode(raw, g_);
    if ((raw.descriptor & format::kCompressed) != 0) {
      count_compressed(raw, entry, i, use);
      continue;
    }
    if (!examine_entry(raw, entry) || !entry.has_cluster()) continue;
    if (use.active != 0) {
      ++result_.allocated_clusters;
      if (next_contiguous != 0 && entry.offset != next_contiguous) ++result_.fragmented_clusters;
      next_contiguous = entry.offset + g_.cluster_size();
    }
    // Clusters of a data file have no counts.
    if (g_.external_data) continue;
    if (use.active != 0) {
      references_.add_flag(g_.cluster_index(entry.offset),
                           entry.copied ? References::kCopiedSet : References::kCopiedClear);
    }
    count_region(entry.offset, g_.cluster_size(), use.total);
  }
}

void Census::count_refcount_blocks() {
  const Refcounts& refcounts = state_.parts->refcounts;
  const uint64_t table_clusters = state_.header.get().refcount_table_clusters;
  count_region(refcounts.table_offset(), table_clusters << g_.cluster_bits, 1);
  const uint64_t file_end = align_up(state_.file.size(), g_.cluster_size());
  for (uint64_t i = 0; i < refcounts.table().size(); ++i) {
    const uint64_t raw = refcounts.table()[i];
    const uint64_t offset = raw & format::kRefcountOffsetMask;
    if (raw != offset) {
      corruption("ERROR refcount table entry {} has reserved bits set", i);
      bad_blocks_.insert(i);
      continue;
    }
    if (offset == 0) continue;
    if (!g_.is_cluster_aligned(offset)) {
      corruption("ERROR refcount block {} is not cluster aligned; refcount table entry corrupted",
                 i);
      bad_blocks_.insert(i);
      continue;
    }
    if (offset >= file_end) {
      corruption("ERROR refcount block {} is outside image", i);
      bad_blocks_.insert(i);
      continue;
    }
    count_region(offset, g_.cluster_size(), 1);
    if (uint32_t n = references_.get(g_.cluster_index(offset)); n != 1) {
      corruption("ERROR refcount block {} refcount={}", i, n);
      bad_blocks_.insert(i);
    }
  }
}

Async<> Census::count_bitmaps() {
  const Header& header = state_.header.get();
  CO_TRY(auto place, bitmap_directory_place(header, state_.file.size()));
  if (!place) co_return Result<void>();
  count_region(place->range.offset, place->range.length, 1);
  CO_TRY(auto bitmaps, co_await read_bitmap_directory(state_.file, header, *place));
  for (const BitmapEntry& bitmap : bitmaps) {
    const uint64_t length = uint64_t{bitmap.table_entries} * 8;
    ByteRange range{bitmap.table_offset, length};
    if (length == 0) continue;
    CO_TRY(bool has_content, co_await count_large_table(range, 1));
    if (!has_content || range.end() > align_up(state_.file.size(), g_.cluster_size())) continue;
    std::vector<be64> raw(bitmap.table_entries);
    std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(raw.data()), length);
    CO_TRY_VOID(co_await state_.file.read_bytes(range.offset, bytes));
    for (uint64_t entry : raw) {
      uint64_t offset = entry & format::kOffsetMask;
      if (offset == 0) continue;
      if (!g_.is_cluster_aligned(offset)) {
        corruption("ERROR bitmap '{}' table entry {:x} is not cluster aligned", bitmap.info.name,
                   entry);
        continue;
      }
      count_region(offset, g_.cluster_size(), 1);
    }
  }
  co_return Result<void>();
}

}  // namespace calf::qcow2
