#include "block/qcow2/refcount_rebuild.h"

#include <algorithm>
#include <map>
#include <set>

namespace calf::qcow2 {
namespace {

class Rebuild {
 public:
  Rebuild(Image::State& state, References& references, unsigned refcount_order)
      : state_(state), g_(state.geometry()), references_(references) {
    g_.refcount_order = refcount_order;
  }

  Async<> run();

 private:
  uint64_t allocate(uint64_t count);
  void place_blocks();
  Result<void> place_table();
  Result<void> check_effort() const;
  void keep_old_structure();
  Async<> write_block(uint64_t index, uint64_t offset);
  Async<> write_table();
  Async<> switch_header();

  Image::State& state_;
  Geometry g_;
  References& references_;
  // Blocks that are needed and not placed yet, and those that are, by index in the table.
  std::set<uint64_t> needed_;
  std::map<uint64_t, uint64_t> blocks_;
  uint64_t table_offset_ = 0;
  uint64_t table_clusters_ = 0;
  uint64_t first_free_ = 0;
};

// The first `count` clusters in a row that nothing refers to; each of them needs to be counted,
// too.
uint64_t Rebuild::allocate(uint64_t count) {
  uint64_t first = first_free_;
  for (uint64_t at = first; at - first < count; ++at) {
    if (references_.get(at) != 0) first = at + 1;
  }
  if (count == 1) first_free_ = first;
  for (uint64_t i = 0; i < count; ++i) {
    references_.add(first + i, 1);
    const uint64_t index = (first + i) >> g_.refcount_block_bits();
    if (!blocks_.contains(index)) needed_.insert(index);
  }
  return first << g_.cluster_bits;
}

// A block stands among the clusters that it counts, if it can.
void Rebuild::place_blocks() {
  while (!needed_.empty()) {
    const uint64_t index = *needed_.begin();
    needed_.erase(needed_.begin());
    blocks_[index] = 0;
    first_free_ = std::max(first_free_, index << g_.refcount_block_bits());
    blocks_[index] = allocate(1);
  }
}

Result<void> Rebuild::place_table() {
  for (;;) {
    const uint64_t entries = blocks_.rbegin()->first + 1;
    table_clusters_ = g_.clusters_for(entries * sizeof(be64));
    if (table_clusters_ << g_.cluster_bits > format::kMaxRefcountTableBytes) {
      return Error::from_errno(EFBIG, "The new refcount table is too large");
    }
    table_offset_ = allocate(table_clusters_);
    place_blocks();
    if (blocks_.rbegin()->first < table_clusters_ << (g_.cluster_bits - 3)) return {};
    // Its own clusters need a block that it has no entry for.
    for (uint64_t i = 0; i < table_clusters_; ++i)
      references_.clear(g_.cluster_index(table_offset_) + i);
  }
}

// A file with few references far from each other would grow by a block for each.
Result<void> Rebuild::check_effort() const {
  constexpr uint64_t kCheap = uint64_t{256} << 20;
  const uint64_t last = std::max(blocks_.rbegin()->second, table_offset_);
  if (last >= format::kMaxHostOffset - format::kMaxRefcountTableBytes) {
    return Error::from_errno(EFBIG, "No room for a new refcount table");
  }
  const uint64_t bytes = blocks_.size() << g_.cluster_bits;
  if (bytes <= kCheap || blocks_.size() * 2 <= references_.page_count()) return {};
  return Error::from_errno(EFBIG, "The used clusters are too far apart");
}

Async<> Rebuild::write_block(uint64_t index, uint64_t offset) {
  std::vector<uint8_t> bytes(g_.cluster_size());
  const uint64_t first = index << g_.refcount_block_bits();
  for (uint64_t i = 0; i < g_.refcounts_per_block(); i += References::kPageClusters) {
    const References::Page* page = references_.find((first + i) >> References::kPageBits);
    if (page == nullptr) continue;
    for (uint64_t k = 0; k < References::kPageClusters; ++k)
      set_count(bytes.data(), i + k, g_.refcount_order, page->references(k));
  }
  co_return co_await state_.file.write_bytes(offset, bytes);
}

Async<> Rebuild::write_table() {
  std::vector<be64> table((table_clusters_ << g_.cluster_bits) / sizeof(be64));
  for (const auto& [index, offset] : blocks_)
    table[index] = offset;
  std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(table.data()),
                                 table.size() * sizeof(be64));
  co_return co_await state_.file.write_bytes(table_offset_, bytes);
}

Async<> Rebuild::switch_header() {
  std::function<void(Header&)> change = [this](Header& header) {
    header.geometry.refcount_order = g_.refcount_order;
    header.refcount_table_offset = table_offset_;
    header.refcount_table_clusters = static_cast<uint32_t>(table_clusters_);
  };
  CO_TRY_VOID(co_await state_.header.update(change));
  CO_TRY_VOID(co_await state_.file.flush());
  Parts& parts = *state_.parts;
  for (uint64_t block : parts.refcounts.table()) {
    const ByteRange range{g_.cluster_start(block), g_.cluster_size()};
    if (block == 0) continue;
    parts.refcounts.cache().drop(range);
    parts.map.remove_table(Area::kRefcountBlock, block);
  }
  parts.map.remove_area(Area::kRefcountTable, parts.refcounts.table_offset());
  CO_TRY_VOID(co_await parts.refcounts.load(table_offset_, table_clusters_));
  for (const auto& [index, offset] : blocks_)
    parts.map.add_table(Area::kRefcountBlock, offset);
  parts.map.add_area(Area::kRefcountTable, {table_offset_, table_clusters_ << g_.cluster_bits});
  parts.map.seal();
  co_return Result<void>();
}

// Blocks that the census has not counted, damaged as their entries are, stay what they are until
// the header points elsewhere.
void Rebuild::keep_old_structure() {
  const uint64_t file_clusters = g_.clusters_for(state_.file.size());
  for (uint64_t entry : state_.parts->refcounts.table()) {
    const uint64_t cluster = g_.cluster_index(entry & format::kRefcountOffsetMask);
    if (entry != 0 && cluster < file_clusters && references_.get(cluster) == 0) {
      references_.add(cluster, 1);
    }
  }
}

Async<> Rebuild::run() {
  keep_old_structure();
  for (uint64_t number : references_.page_numbers()) {
    if (!references_.find(number)->is_used()) continue;
    needed_.insert((number << References::kPageBits) >> g_.refcount_block_bits());
  }
  place_blocks();
  CO_TRY_VOID(place_table());
  CO_TRY_VOID(check_effort());
  for (const auto& [index, offset] : blocks_)
    CO_TRY_VOID(co_await write_block(index, offset));
  CO_TRY_VOID(co_await write_table());
  // The new structure before the pointer to it.
  CO_TRY_VOID(co_await state_.file.flush());
  co_return co_await switch_header();
}

}  // namespace

Async<> rebuild_refcount_structure(Image::State& state, References& references) {
  return rebuild_refcount_structure(state, references, state.geometry().refcount_order);
}

Async<> rebuild_refcount_structure(Image::State& state, References& references,
                                   unsigned refcount_order) {
  Rebuild rebuild(state, references, refcount_order);
  co_return co_await rebuild.run();
}

}  // namespace calf::qcow2
