#include "block/qcow2/refcount.h"

#include <algorithm>
#include <cassert>

#include "block/qcow2/c_hex.h"

namespace calf::qcow2 {

uint64_t get_count(const uint8_t* bytes, uint64_t index, unsigned order) {
  switch (order) {
    case 0:
    case 1:
    case 2: {
      unsigned bits = 1u << order;
      unsigned per_byte = 8 / bits;
      unsigned shift = static_cast<unsigned>(index % per_byte) * bits;
      return (bytes[index / per_byte] >> shift) & ((1u << bits) - 1);
    }
    case 3:
      return bytes[index];
    case 4:
      return reinterpret_cast<const be16*>(bytes)[index];
    case 5:
      return reinterpret_cast<const be32*>(bytes)[index];
    default:
      return reinterpret_cast<const be64*>(bytes)[index];
  }
}

void set_count(uint8_t* bytes, uint64_t index, unsigned order, uint64_t value) {
  switch (order) {
    case 0:
    case 1:
    case 2: {
      unsigned bits = 1u << order;
      unsigned per_byte = 8 / bits;
      unsigned shift = static_cast<unsigned>(index % per_byte) * bits;
      unsigned mask = ((1u << bits) - 1) << shift;
      uint8_t& byte = bytes[index / per_byte];
      byte =
          static_cast<uint8_t>((byte & ~mask) | ((static_cast<unsigned>(value) << shift) & mask));
      break;
    }
    case 3:
      bytes[index] = static_cast<uint8_t>(value);
      break;
    case 4:
      reinterpret_cast<be16*>(bytes)[index] = static_cast<uint16_t>(value);
      break;
    case 5:
      reinterpret_cast<be32*>(bytes)[index] = static_cast<uint32_t>(value);
      break;
    default:
      reinterpret_cast<be64*>(bytes)[index] = value;
      break;
  }
}

bool counts_equal(const uint8_t* bytes, uint64_t index, unsigned order,
                  std::span<const uint8_t> expected) {
  // 16 bits are what nearly all images have: a loop that compiles to vector instructions.
  if (order == 4) {
    const auto* counts = reinterpret_cast<const be16*>(bytes) + index;
    unsigned differs = 0;
    for (size_t i = 0; i < expected.size(); ++i)
      differs |= counts[i] ^ unsigned { expected[i] };
    return differs == 0;
  }
  for (size_t i = 0; i < expected.size(); ++i)
    if (get_count(bytes, index + i, order) != expected[i]) return false;
  return true;
}

void set_counts(uint8_t* bytes, uint64_t index, uint64_t count, unsigned order, uint64_t value) {
  if (order == 4) {
    std::fill_n(reinterpret_cast<be16*>(bytes) + index, count, be16(static_cast<uint16_t>(value)));
    return;
  }
  for (uint64_t i = 0; i < count; ++i)
    set_count(bytes, index + i, order, value);
}

Refcounts::Refcounts(Executor& executor, HostFile& file, const Geometry& geometry, Health& health,
                     uint64_t cache_bytes)
    : file_(file),
      geometry_(geometry),
      health_(health),
      cache_(executor, file, geometry.slice_size(), cache_bytes) {}

Async<> Refcounts::load(uint64_t table_offset, uint64_t table_clusters) {
  std::vector<be64> raw((table_clusters << geometry_.cluster_bits) / 8);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(raw.data()), raw.size() * sizeof(be64));
  CO_TRY_VOID(co_await file_.read_bytes(table_offset, bytes));
  table_offset_ = table_offset;
  aliased_ = false;
  table_.assign(raw.begin(), raw.end());
  co_return Result<void>();
}

// Of the slice that counts `cluster`, in the file.
uint64_t Refcounts::slice_offset(uint64_t cluster) const {
  const uint64_t in_block = cluster & (geometry_.refcounts_per_block() - 1);
  return table_[cluster >> geometry_.refcount_block_bits()] +
         align_down(in_block, counts_per_slice()) * geometry_.refcount_bits() / 8;
}

std::optional<Refcounts::Place> Refcounts::find(uint64_t cluster) {
  // An unaligned block is never in the cache.
  if (!covered(cluster) || aliased_) return std::nullopt;
  if (!geometry_.is_cluster_aligned(table_[cluster >> geometry_.refcount_block_bits()])) {
    return std::nullopt;
  }
  SliceRef slice = cache_.find(slice_offset(cluster));
  if (!slice) return std::nullopt;
  return Place{std::move(slice), index_in_slice(cluster)};
}

Async<Refcounts::Place> Refcounts::place(uint64_t cluster) {
  assert(covered(cluster));
  if (std::optional<Place> found = find(cluster)) co_return std::move(*found);
  const uint64_t table_index = cluster >> geometry_.refcount_block_bits();
  const uint64_t block = table_[table_index];
  if (!geometry_.is_cluster_aligned(block) || block >= format::kMaxHostOffset) {
    co_return health_.fatal(fmt::format("Refblock offset {:#x} unaligned (reftable index: {})",
                                        block, c_hex(table_index)));
  }
  if (aliased_) {
    co_return health_.fatal("Refcount table points to one refcount block more than once");
  }
  const uint64_t offset = slice_offset(cluster);
  if (offset >= file_.high_water()) {
    co_return health_.fatal(fmt::format("Refblock at {:#x} is outside the file", block));
  }
  CO_TRY(SliceRef slice, co_await cache_.load(offset));
  co_return Place{std::move(slice), index_in_slice(cluster)};
}

Async<uint64_t> Refcounts::get(uint64_t cluster) {
  if (!covered(cluster)) co_return uint64_t{0};
  if (std::optional<Place> at = find(cluster)) {
    co_return get_count(at->slice.bytes(), at->index, geometry_.refcount_order);
  }
  CO_TRY(Place at, co_await place(cluster));
  co_return get_count(at.slice.bytes(), at.index, geometry_.refcount_order);
}

Async<> Refcounts::set(uint64_t cluster, uint64_t value) {
  assert(value <= geometry_.max_refcount());
  CO_TRY(Place at, co_await place(cluster));
  set_count(at.slice.bytes(), at.index, geometry_.refcount_order, value);
  cache_.mark_dirty(at.slice);
  co_return Result<void>();
}

void Refcounts::link_new_block(uint64_t table_index, uint64_t offset) {
  for (uint64_t at = 0; at < geometry_.cluster_size(); at += cache_.slice_size())
    (void)cache_.create(offset + at);
  table_[table_index] = offset;
  new_links_.push_back({table_index, offset});
  unlinked_.insert(offset);
  file_.raise_high_water(offset + geometry_.cluster_size());
}

void Refcounts::drop_block(uint64_t table_index) {
  cache_.drop({table_[table_index], geometry_.cluster_size()});
  table_[table_index] = 0;
}

std::vector<Refcounts::TableEntryWrite> Refcounts::collect_links() {
  unlinked_.clear();
  return std::exchange(new_links_, {});
}

void Refcounts::restore_links(const std::vector<TableEntryWrite>& links) {
  for (const TableEntryWrite& link : links) {
    new_links_.push_back(link);
    unlinked_.insert(link.value);
  }
}

void Refcounts::table_moved(uint64_t offset, uint64_t clusters) {
  table_offset_ = offset;
  table_.resize((clusters << geometry_.cluster_bits) / 8);
}

}  // namespace calf::qcow2
