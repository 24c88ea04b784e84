#include "block/qcow2/census.h"

#include <algorithm>
#include <map>

namespace calf::qcow2 {

Async<bool> is_hole(HostFile& file, ByteRange range) {
  uint64_t size = file.size();
  if (range.offset >= size) co_return true;
  ByteRange inside = range.intersect({0, size});
  CO_TRY(block::Extent extent, co_await file.node().map(inside));
  co_return extent.zero && !extent.data && extent.range.length >= inside.length;
}

Async<bool> TablesInTurn::read(uint64_t offset, std::span<uint8_t> bytes) {
  if (last_was_empty_) {
    const ByteRange range{offset, bytes.size()};
    CO_TRY(bool hole, co_await is_hole(file_, range));
    if (hole) co_return false;
  }
  CO_TRY_VOID(co_await file_.read_bytes(offset, bytes));
  last_was_empty_ = is_all_zero(bytes);
  co_return !last_was_empty_;
}

Async<> Census::run() {
  const Header& header = state_.header.get();
  const Refcounts& refcounts = state_.parts->refcounts;
  count_region(0, g_.cluster_size(), 1);
  const std::vector<L1Place> tables = find_l1_tables();
  for (const L1Place& place : tables)
    CO_TRY_VOID(co_await learn_uses(place));
  for (const L1Place& place : tables)
    CO_TRY_VOID(co_await walk_l1(place));
  count_region(header.snapshots_offset, state_.snapshot_table_bytes, 1);
  count_region(refcounts.table_offset(),
               uint64_t{header.refcount_table_clusters} << g_.cluster_bits, 1);
  CO_TRY_VOID(co_await count_bitmaps());
  CO_TRY(auto encryption, encryption_header_place(header, state_.file.size()));
  if (encryption) count_region(encryption->offset, encryption->length, 1);
  co_return co_await count_refcount_blocks();
}

void Census::overflow(uint64_t cluster, uint64_t times) {
  // One table that many snapshots share says it once.
  result_.corruptions += times - 1;
  corruption(
      "ERROR: overflow cluster offset={:#x}\n"
      "Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a "
      "clean copy if the image cannot be opened for writing",
      cluster << g_.cluster_bits);
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
  const uint64_t first = g_.cluster_index(offset);
  references_.add_run(first, g_.cluster_index(offset + length - 1) + 1 - first, times,
                      [this](uint64_t cluster, uint64_t beyond) { overflow(cluster, beyond); });
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

bool Census::check_snapshot(const SnapshotInfo& snapshot) {
  if (!g_.is_cluster_aligned(snapshot.l1_offset)) {
    corruption(
        "ERROR snapshot {} ({}) l1_offset={:#x}: L1 table is not cluster aligned; "
        "snapshot table entry corrupted",
        snapshot.id, snapshot.name, snapshot.l1_offset);
    return false;
  }
  if (snapshot.l1_entries > format::kMaxL1Bytes / 8) {
    corruption(
        "ERROR snapshot {} ({}) l1_size={:#x}: L1 table is too large; snapshot table "
        "entry corrupted",
        snapshot.id, snapshot.name, snapshot.l1_entries);
    return false;
  }
  return true;
}

std::vector<Census::L1Place> Census::find_l1_tables() {
  const Header& header = state_.header.get();
  std::vector<L1Place> out{{header.l1_offset, header.l1_entries, 1, true}};
  if (g_.external_data && !state_.snapshots.empty()) {
    corruption("ERROR {} snapshots in image with data file", state_.snapshots.size());
  }
  // Snapshots that share an L1 table cannot be, but would be a cheap way to make us read for hours.
  std::map<std::pair<uint64_t, uint64_t>, size_t> known;
  for (const SnapshotInfo& snapshot : state_.snapshots) {
    if (!check_snapshot(snapshot)) continue;
    auto [it, is_new] = known.try_emplace({snapshot.l1_offset, snapshot.l1_entries}, out.size());
    if (is_new) {
      out.push_back({snapshot.l1_offset, snapshot.l1_entries, 1, false});
    } else {
      ++out[it->second].times;
    }
  }
  return out;
}

Async<std::vector<be64>> Census::read_l1(L1Place place) {
  const uint64_t file_size = state_.file.size();
  if (place.offset >= file_size) co_return std::vector<be64>();
  const uint64_t entries = std::min(place.entries, div_round_up(file_size - place.offset, 8));
  const ByteRange range{place.offset, entries * 8};
  CO_TRY(bool hole, co_await is_hole(state_.file, range));
  if (hole) co_return std::vector<be64>();
  std::vector<be64> raw(entries);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(raw.data()), entries * 8);
  CO_TRY_VOID(co_await state_.file.read_bytes(place.offset, bytes));
  co_return raw;
}

Async<> Census::learn_uses(L1Place place) {
  CO_TRY_VOID(deadline_.check());
  CO_TRY(std::vector<be64> entries, co_await read_l1(place));
  for (uint64_t raw : entries) {
    const uint64_t offset = L1Entry::decode(raw).offset;
    if (offset == 0) continue;
    TableUse& use = tables_[offset];
    use.total += place.times;
    if (place.active) ++use.active;
  }
  co_return Result<void>();
}

Async<> Census::walk_l1(L1Place place) {
  CO_TRY_VOID(deadline_.check());
  if (place.entries == 0) co_return Result<void>();
  const ByteRange range{place.offset, place.entries * 8};
  CO_TRY(bool has_content, co_await count_large_table(range, place.times));
  if (!has_content) co_return Result<void>();
  CO_TRY(std::vector<be64> entries, co_await read_l1(place));
  for (uint64_t raw : entries) {
    CO_TRY_VOID(deadline_.check_often());
    const L1Entry entry = L1Entry::decode(raw);
    if (entry.reserved_bits) corruption("ERROR found L1 entry with reserved bits set: {:x}", raw);
    if (entry.offset == 0) continue;
    TableUse& use = tables_[entry.offset];
    if (!use.walked) count_region(entry.offset, g_.cluster_size(), use.total);
    if (!g_.is_cluster_aligned(entry.offset)) {
      corruption("ERROR l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted",
                 entry.offset);
    } else if (!use.walked) {
      CO_TRY_VOID(co_await walk_l2(entry.offset, use));
    }
    use.walked = true;
  }
  co_return Result<void>();
}

Async<> Census::walk_l2(uint64_t offset, TableUse use) {
  CO_TRY_VOID(deadline_.check());
  const ByteRange range{offset, g_.cluster_size()};
  std::vector<be64>& words = l2_words_;
  words.resize(g_.cluster_size() / 8);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(words.data()), g_.cluster_size());
  Result<bool> has_content = co_await l2_tables_.read(offset, bytes);
  if (!has_content.ok()) {
    ++result_.check_errors;
    sink_(fmt::format("ERROR: I/O error in L2 table at offset {:#x}: {}", offset,
                      has_content.error().message()));
    co_return std::move(has_content.error());
  }
  if (!*has_content) co_return Result<void>();
  uint64_t next_contiguous = 0;
  for (uint64_t i = 0; i < g_.l2_entries(); ++i) {
    CO_TRY_VOID(deadline_.check_often());
    RawL2Entry raw = load_l2_entry(words.data(), i, g_);
    if (raw.empty()) continue;
    if (const uint64_t run = plain_run(std::span(words).subspan(i)); run > 1) {
      count_run(raw.descriptor, run, use, &next_contiguous);
      i += run - 1;
      continue;
    }
    const L2Entry entry = L2Entry::decode(raw, g_);
    if ((raw.descriptor & format::kCompressed) != 0) {
      count_compressed(raw, entry, i, use);
      continue;
    }
    if (examine_entry(raw, entry)) {
      count_cluster(entry, use, &next_contiguous);
      continue;
    }
    // Only the L2 table itself is written, and only if nothing else stands there.
    if (state_.parts->map.find(range, static_cast<uint16_t>(Area::kActiveL2)) != 0) continue;
    store_l2_entry(words.data(), i, zeroed(raw), g_);
    const uint64_t size = uint64_t{1} << g_.l2_entry_bits();
    CO_TRY_VOID(co_await state_.file.write_bytes(offset + i * size, bytes.subspan(i * size, size)));
    --result_.corruptions;
    ++result_.corruptions_fixed;
  }
  co_return Result<void>();
}

// How many entries from the first on are ordinary clusters that follow each other in the file, none
// of them with anything to tell about: what most tables of most images are made of.
uint64_t Census::plain_run(std::span<const be64> words) const {
  if (g_.extended_l2 || g_.external_data) return 0;
  const uint64_t first = words[0];
  const uint64_t offset = first & format::kOffsetMask;
  if ((first & ~(format::kOffsetMask | format::kCopied)) != 0) return 0;
  if (offset == 0 || !g_.is_cluster_aligned(offset)) return 0;
  // Up to the largest offset there is, so that none of the sums touches a flag.
  const uint64_t most =
      std::min(words.size(), ((format::kOffsetMask - offset) >> g_.cluster_bits) + 1);
  uint64_t n = 1;
  // Eight at a time, without a branch for each.
  for (bool same = true; same && n + 8 <= most;) {
    uint64_t differs = 0;
    for (uint64_t k = n; k < n + 8; ++k)
      differs |= words[k] ^ (first + (k << g_.cluster_bits));
    same = differs == 0;
    if (same) n += 8;
  }
  while (n < most && words[n] == first + (n << g_.cluster_bits))
    ++n;
  return n;
}

void Census::count_run(uint64_t descriptor, uint64_t clusters, TableUse use,
                       uint64_t* next_contiguous) {
  const uint64_t offset = descriptor & format::kOffsetMask;
  if (use.active != 0) {
    result_.allocated_clusters += use.active * clusters;
    if (*next_contiguous != 0 && offset != *next_contiguous) {
      result_.fragmented_clusters += use.active;
    }
    *next_contiguous = offset + (clusters << g_.cluster_bits);
    references_.add_flag_run(
        g_.cluster_index(offset), clusters,
        (descriptor & format::kCopied) != 0 ? References::kCopiedSet : References::kCopiedClear);
  }
  // Those behind the end of the file are told of one by one.
  const uint64_t all = clusters << g_.cluster_bits;
  const uint64_t file_end = align_up(state_.file.size(), g_.cluster_size());
  const uint64_t inside = offset < file_end ? std::min(all, file_end - offset) : 0;
  count_region(offset, inside, use.total);
  for (uint64_t at = inside; at < all; at += g_.cluster_size())
    count_region(offset + at, g_.cluster_size(), use.total);
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
  count_region(entry.offset, entry.compressed_length, use.total);
  result_.allocated_clusters += use.active;
  result_.compressed_clusters += use.active;
  result_.fragmented_clusters += use.active;
}

// All that the entry said to be there reads as zeroes from now on; its cluster is nobody's.
RawL2Entry Census::zeroed(RawL2Entry raw) const {
  if (!g_.extended_l2) return {format::kZero, 0};
  return {0, (raw.subclusters | raw.subclusters << 32) & ~uint64_t{UINT32_MAX}};
}

bool Census::examine_entry(RawL2Entry raw, const L2Entry& entry) {
  const bool has_zero_flag = g_.version >= 3 && !g_.extended_l2;
  const uint64_t reserved = format::kL2Reserved | (has_zero_flag ? 0 : format::kZero);
  if ((raw.descriptor & reserved) != 0) {
    corruption("ERROR found l2 entry with reserved bits set: {:x}", raw.descriptor);
  }
  // Which of two answers is right nobody knows: such a map stays as it is.
  if (entry.placed && (entry.data_mask & entry.zero_mask) != 0) {
    corruption("ERROR offset={:x}: Allocated cluster has corrupted subcluster allocation bitmap",
               entry.offset);
  } else if (!entry.placed && entry.data_mask != 0) {
    corruption("ERROR: Unallocated cluster has non-zero subcluster allocation map");
  }
  if (g_.is_cluster_aligned(entry.offset)) return true;
  // Without data it is known what the guest reads.
  if (entry.data_mask == 0) {
    corruption("{} offset={:x}: Preallocated cluster is not properly aligned; L2 entry corrupted.",
               repair_ ? "Repairing" : "ERROR", entry.offset);
    return !repair_;
  }
  corruption("ERROR offset={:x}: Data cluster is not properly aligned; L2 entry corrupted.",
             entry.offset);
  return true;
}

void Census::count_cluster(const L2Entry& entry, TableUse use, uint64_t* next_contiguous) {
  if (!entry.has_cluster()) return;
  if (use.active != 0) {
    result_.allocated_clusters += use.active;
    if (*next_contiguous != 0 && entry.offset != *next_contiguous) {
      result_.fragmented_clusters += use.active;
    }
    *next_contiguous = entry.offset + g_.cluster_size();
  }
  // Clusters of a data file have no counts.
  if (g_.external_data) return;
  if (use.active != 0 && g_.is_cluster_aligned(entry.offset)) {
    references_.add_flag(g_.cluster_index(entry.offset),
                         entry.copied ? References::kCopiedSet : References::kCopiedClear);
  }
  // An unaligned one keeps both clusters that it touches.
  count_region(entry.offset, g_.cluster_size(), use.total);
}

Async<> Census::count_bitmaps() {
  const Header& header = state_.header.get();
  Result<std::optional<BitmapDirectoryPlace>> place =
      bitmap_directory_place(header, state_.file.size());
  if (!place.ok()) {
    corruption("ERROR {}", place.error().message());
    co_return Result<void>();
  }
  if (!*place) co_return Result<void>();
  count_region((*place)->range.offset, (*place)->range.length, 1);
  Result<std::vector<BitmapEntry>> bitmaps =
      co_await read_bitmap_directory(state_.file, header, **place);
  if (!bitmaps.ok()) {
    if (bitmaps.error().kind() != ErrorKind::kCorrupt) co_return std::move(bitmaps.error());
    corruption("ERROR {}", bitmaps.error().message());
    co_return Result<void>();
  }
  for (const BitmapEntry& bitmap : *bitmaps)
    CO_TRY_VOID(co_await count_bitmap(bitmap));
  co_return Result<void>();
}

Async<> Census::count_bitmap(const BitmapEntry& bitmap) {
  CO_TRY_VOID(deadline_.check());
  const ByteRange range = bitmap.table();
  if (range.empty()) co_return Result<void>();
  CO_TRY(bool has_content, co_await count_large_table(range, 1));
  if (!has_content || range.end() > align_up(state_.file.size(), g_.cluster_size())) {
    co_return Result<void>();
  }
  std::vector<be64> raw(bitmap.table_entries);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(raw.data()), range.length);
  CO_TRY_VOID(co_await state_.file.read_bytes(range.offset, bytes));
  for (uint64_t entry : raw) {
    CO_TRY_VOID(deadline_.check_often());
    if (entry == 0 || entry == format::kBitmapAllOnes) continue;
    if (!g_.is_cluster_aligned(entry) || entry >= format::kMaxHostOffset) {
      corruption("ERROR table entry of bitmap '{}' is corrupted: {:x}", bitmap.info.name, entry);
      continue;
    }
    count_region(entry, g_.cluster_size(), 1);
  }
  co_return Result<void>();
}

Async<> Census::count_refcount_blocks() {
  for (uint64_t i = 0; i < state_.parts->refcounts.table().size(); ++i) {
    CO_TRY_VOID(deadline_.check_often());
    if (state_.parts->refcounts.table()[i] != 0) CO_TRY_VOID(co_await count_refcount_block(i));
  }
  co_return Result<void>();
}

// A file that lost its end: the block is nothing but zeroes, but it has a place again.
Async<bool> Census::lengthen_file(uint64_t end) {
  constexpr uint64_t kFarthest = uint64_t{1} << 30;
  const uint64_t size = state_.file.size();
  Result<void> done = Error::from_errno(EFBIG);
  if (end > size && end <= size + kFarthest) {
    done = co_await state_.file.node().truncate(end, block::Preallocation::kOff);
  }
  if (!done.ok()) {
    sink_(fmt::format("ERROR could not resize image: {}", done.error().message()));
    co_return false;
  }
  state_.file.raise_high_water(end);
  co_return true;
}

Async<> Census::count_refcount_block(uint64_t index) {
  const uint64_t raw = state_.parts->refcounts.table()[index];
  const uint64_t offset = raw & format::kRefcountOffsetMask;
  if (raw != offset) {
    corruption("ERROR refcount table entry {} has reserved bits set", index);
    needs_rebuild_ = true;
    co_return Result<void>();
  }
  if (!g_.is_cluster_aligned(offset)) {
    corruption("ERROR refcount block {} is not cluster aligned; refcount table entry corrupted",
               index);
    needs_rebuild_ = true;
    co_return Result<void>();
  }
  if (offset >= align_up(state_.file.size(), g_.cluster_size())) {
    corruption("{} refcount block {} is outside image", repair_ ? "Repairing" : "ERROR", index);
    if (!repair_) co_return Result<void>();
    CO_TRY(bool longer, co_await lengthen_file(offset + g_.cluster_size()));
    if (!longer) {
      needs_rebuild_ = true;
      co_return Result<void>();
    }
    --result_.corruptions;
    ++result_.corruptions_fixed;
  }
  count_region(offset, g_.cluster_size(), 1);
  if (uint32_t n = references_.get(g_.cluster_index(offset)); n != 1) {
    corruption("ERROR refcount block {} refcount={}", index, n);
    needs_rebuild_ = true;
  }
  co_return Result<void>();
}

}  // namespace calf::qcow2
