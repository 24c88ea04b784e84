#include "block/qcow2/mapping.h"

#include <cassert>

#include "block/qcow2/c_hex.h"

namespace calf::qcow2 {
namespace {

// Tables up to this size are made in the cache; larger ones are zeroed in the file.
constexpr uint64_t kCachedTableBytes = 65536;

}  // namespace

Mapping::Mapping(Executor& executor, HostFile& file, const Geometry& geometry, uint64_t cache_bytes,
                 Refcounts& refcounts, Allocator& allocator, MetadataMap& map, Health& health)
    : file_(file),
      geometry_(geometry),
      refcounts_(refcounts),
      allocator_(allocator),
      map_(map),
      health_(health),
      cache_(executor, file, geometry.slice_size(), cache_bytes),
      table_mutex_(executor) {}

L2View Mapping::locate(uint64_t guest, uint64_t l2_offset) const {
  const uint64_t per_slice = geometry_.l2_slice_entries();
  L2View view;
  view.guest = geometry_.cluster_start(guest);
  view.l2_index = geometry_.l2_index(guest);
  view.l2_offset = l2_offset;
  view.first = view.l2_index % per_slice;
  view.count = per_slice - view.first;
  return view;
}

uint64_t Mapping::slice_offset(const L2View& view) const {
  return view.l2_offset + ((view.l2_index - view.first) << geometry_.l2_entry_bits());
}

L2Entry Mapping::entry(const L2View& view, uint64_t i) const {
  L2Entry entry = L2Entry::decode(raw(view, i), geometry_);
  // An external data file holds each cluster at the guest's offset, and nowhere else.
  if (geometry_.external_data && entry.placed &&
      entry.offset != view.guest + (i << geometry_.cluster_bits)) {
    entry.kind = ClusterKind::kInvalid;
  }
  return entry;
}

Result<void> Mapping::check_table(uint64_t l1_index, L1Entry entry) const {
  if (!geometry_.is_cluster_aligned(entry.offset)) {
    return health_.harmless(fmt::format("L2 table offset {:#x} unaligned (L1 index: {})",
                                        entry.offset, c_hex(l1_index)));
  }
  if (entry.offset >= file_.high_water()) {
    return health_.harmless(fmt::format("L2 table offset {:#x} outside the file (L1 index: {})",
                                        entry.offset, c_hex(l1_index)));
  }
  return {};
}

std::optional<L2View> Mapping::find(uint64_t guest) {
  L1Entry entry = l1_.get(geometry_.l1_index(guest));
  L2View view = locate(guest, entry.offset);
  if (entry.offset == 0) return view;
  // An unaligned table is never in the cache.
  if (!geometry_.is_cluster_aligned(entry.offset)) return std::nullopt;
  view.slice = cache_.find(slice_offset(view));
  if (!view.slice) return std::nullopt;
  return view;
}

Async<L2View> Mapping::view(uint64_t guest) {
  uint64_t l1_index = geometry_.l1_index(guest);
  L1Entry entry = l1_.get(l1_index);
  L2View out = locate(guest, entry.offset);
  if (entry.offset == 0) co_return out;
  CO_TRY_VOID(check_table(l1_index, entry));
  CO_TRY(out.slice, co_await cache_.load(slice_offset(out)));
  co_return out;
}

Async<L2View> Mapping::writable_view(uint64_t guest) {
  uint64_t l1_index = geometry_.l1_index(guest);
  if (!l1_.verified(l1_index)) {
    AsyncMutex::Guard guard = co_await table_mutex_.lock();
    if (!l1_.verified(l1_index)) CO_TRY_VOID(co_await make_writable(l1_index));
  }
  co_return co_await view(guest);
}

Async<> Mapping::make_writable(uint64_t l1_index) {
  L1Entry entry = l1_.get(l1_index);
  if (entry.offset == 0) co_return co_await add_table(l1_index);
  CO_TRY_VOID(check_table(l1_index, entry));
  CO_TRY(uint64_t count, co_await refcounts_.get(geometry_.cluster_index(entry.offset)));
  if (count == 0) {
    co_return health_.fatal(fmt::format("L2 table offset {:#x} is not allocated (L1 index: {})",
                                        entry.offset, c_hex(l1_index)));
  }
  if (!entry.copied || count != 1) co_return co_await copy_table(l1_index, entry.offset);

  ByteRange range{entry.offset, geometry_.cluster_size()};
  uint16_t areas = map_.find(range, static_cast<uint16_t>(Area::kActiveL2));
  if (areas != 0) {
    co_return health_.fatal(
        fmt::format("Preventing invalid write on metadata (overlaps with {})", area_name(areas)));
  }
  l1_.set_verified(l1_index);
  co_return Result<void>();
}

void Mapping::publish(uint64_t l1_index, uint64_t offset) {
  file_.raise_high_water(offset + geometry_.cluster_size());
  map_.add_table(Area::kActiveL2, offset);
  unpublished_.insert(offset);
  l1_.set(l1_index, {offset, true, false});
  l1_.set_verified(l1_index);
}

Async<> Mapping::add_table(uint64_t l1_index) {
  const uint64_t size = geometry_.cluster_size();
  CO_TRY(Allocator::Allocation made, co_await allocator_.allocate(1, "L2 table"));
  const ByteRange place = made.range;
  if (size <= kCachedTableBytes) {
    for (uint64_t at = 0; at < size; at += cache_.slice_size())
      (void)cache_.create(place.offset + at);
  } else {
    cache_.drop(place);
    Result<void> zeroed = co_await file_.write_zeroes(place);
    if (!zeroed.ok()) {
      co_await allocator_.undo(place);
      co_return std::move(zeroed.error());
    }
  }
  publish(l1_index, place.offset);
  co_return Result<void>();
}

// The old table stays as it is until the new one is complete and pointed to: a failure half-way
// costs the new cluster only.
Async<> Mapping::copy_table(uint64_t l1_index, uint64_t old_offset) {
  const uint64_t size = geometry_.cluster_size();
  std::vector<uint8_t> bytes(size);
  CO_TRY_VOID(co_await file_.read_bytes(old_offset, bytes));
  CO_TRY(Allocator::Allocation made, co_await allocator_.allocate(1, "L2 table"));
  const ByteRange place = made.range;
  cache_.drop(place);
  Result<void> written = co_await file_.write_bytes(place.offset, bytes);
  if (!written.ok()) {
    co_await allocator_.undo(place);
    co_return std::move(written.error());
  }
  publish(l1_index, place.offset);
  map_.remove_table(Area::kActiveL2, old_offset);
  cache_.drop({old_offset, size});
  allocator_.free_later({old_offset, size}, false);
  co_return Result<void>();
}

uint64_t Mapping::end_without_table(uint64_t guest, uint64_t end) const {
  uint64_t index = geometry_.l1_index(guest);
  while (index < l1_.size() && l1_.get(index).offset == 0 && index * geometry_.l2_coverage() < end)
    ++index;
  return std::min(end, index * geometry_.l2_coverage());
}

uint64_t Mapping::run_without_cluster(const L2View& view, uint64_t i) const {
  uint64_t n = 0;
  for (; i + n < view.count; ++n) {
    if (raw(view, i + n).empty()) continue;
    const L2Entry old = entry(view, i + n);
    if (old.has_cluster() || old.kind == ClusterKind::kCompressed) break;
  }
  return n;
}

std::vector<bool>& Mapping::verified(const L2View& view) const {
  std::vector<bool>& bits = view.slice->verified;
  if (bits.empty()) bits.resize(geometry_.l2_slice_entries());
  return bits;
}

void Mapping::set(const L2View& view, uint64_t i, const L2Entry& entry) {
  assert(view.slice && i < view.count);
  store_l2_entry(view.slice.words(), view.first + i, entry.encode(geometry_), geometry_);
  // What we have just allocated is ours.
  verified(view)[view.first + i] = entry.copied;
  cache_.mark_dirty(view.slice);
}

void Mapping::set_data(const L2View& view, uint64_t i, uint64_t count, uint64_t offset) {
  assert(view.slice && i + count <= view.count);
  RawL2Entry raw = L2Entry::data(offset).encode(geometry_);
  for (uint64_t k = view.first + i; k < view.first + i + count; ++k) {
    store_l2_entry(view.slice.words(), k, raw, geometry_);
    raw.descriptor += geometry_.cluster_size();
  }
  const auto first = verified(view).begin() + static_cast<std::ptrdiff_t>(view.first + i);
  std::fill_n(first, count, true);
  cache_.mark_dirty(view.slice);
}

Async<bool> Mapping::may_overwrite(const L2View& view, uint64_t i) {
  if (known_overwritable(view, i)) co_return true;
  L2Entry e = entry(view, i);
  if (!e.has_cluster() || e.kind == ClusterKind::kInvalid) co_return false;
  // A data file's clusters are nobody else's.
  if (geometry_.external_data) co_return true;
  if (!e.copied) co_return false;
  SliceRef slice = view.slice;
  CO_TRY(uint64_t count, co_await refcounts_.get(geometry_.cluster_index(e.offset)));
  if (count != 1) co_return false;
  ByteRange range{e.offset, geometry_.cluster_size()};
  uint16_t areas = map_.find(range);
  if (areas != 0) {
    co_return health_.fatal(
        fmt::format("Preventing invalid write on metadata (overlaps with {})", area_name(areas)));
  }
  std::vector<bool>& verified = slice->verified;
  if (verified.empty()) verified.resize(geometry_.l2_slice_entries());
  verified[view.first + i] = true;
  co_return true;
}

Error Mapping::invalid_entry(const L2View& view, uint64_t i, bool fatal) {
  const uint64_t descriptor = raw(view, i).descriptor;
  const L2Entry decoded = L2Entry::decode(raw(view, i), geometry_);
  std::string what;
  if (geometry_.external_data && decoded.kind != ClusterKind::kInvalid) {
    what = fmt::format(
        "External data file host cluster offset {:#x} does not match guest cluster offset: {:#x}, "
        "L2 index: {})",
        decoded.offset, view.guest + (i << geometry_.cluster_bits), c_hex(view.l2_index + i));
  } else if (geometry_.is_cluster_aligned(descriptor & format::kOffsetMask) ||
             (descriptor & format::kCompressed) != 0) {
    what = fmt::format("Invalid cluster entry found (L2 offset: {:#x}, L2 index: {})",
                       view.l2_offset, c_hex(view.l2_index + i));
  } else {
    what = fmt::format("Cluster allocation offset {:#x} unaligned (L2 offset: {:#x}, L2 index: {})",
                       descriptor & format::kOffsetMask, view.l2_offset, c_hex(view.l2_index + i));
  }
  return fatal ? health_.fatal(what) : health_.harmless(what);
}

}  // namespace calf::qcow2
