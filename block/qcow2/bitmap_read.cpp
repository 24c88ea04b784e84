// BitmapStore: bits from the file. A table is believed as far as it can be true; what it says
// besides makes its bitmap inconsistent, not the image unusable.
#include <algorithm>

#include "block/qcow2/bitmap_store.h"
#include "block/qcow2/census.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {

Async<std::vector<uint64_t>> BitmapStore::load_table(const Item& item) {
  const ByteRange place = item.entry.table();
  std::vector<uint64_t> table(item.entry.table_entries);
  CO_TRY(bool hole, co_await is_hole(state_.file, place));
  if (hole) co_return table;
  std::vector<be64> raw(table.size());
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(raw.data()), place.length);
  CO_TRY_VOID(co_await state_.file.read_bytes(place.offset, bytes));
  table.assign(raw.begin(), raw.end());
  co_return table;
}

// Can the range hold bits or their table, and nothing else that is known of?
bool BitmapStore::is_ours(ByteRange range) const {
  const Geometry& g = state_.geometry();
  const uint64_t file_end = align_up(state_.file.size(), g.cluster_size());
  return g.is_cluster_aligned(range.offset) && range.offset < file_end &&
         range.length <= file_end - range.offset && state_.parts->map.find(range) == 0;
}

// Each cluster of bits is read once, so the memory for them follows the size of the file.
Async<> BitmapStore::load_pages(Item& item, const std::vector<uint64_t>& table) {
  const Geometry& g = state_.geometry();
  for (uint64_t i = 0; i < table.size(); ++i) {
    if (table[i] == 0) continue;
    if (table[i] == format::kBitmapAllOnes) {
      DirtyBitmap::Page ones{true, {}};
      item.bits->load_page(i, std::move(ones));
      continue;
    }
    const uint64_t offset = table[i];
    if (!is_ours({offset, g.cluster_size()})) {
      co_return make_error(ErrorKind::kCorrupt, "Table entry {} of bitmap '{}' is invalid: {:#x}",
                           i, item.name(), offset);
    }
    item.clusters.push_back(offset);
    ByteRange place{offset, g.cluster_size()};
    CO_TRY(bool hole, co_await is_hole(state_.file, place));
    if (hole) continue;
    DirtyBitmap::Page page{false, std::vector<uint8_t>(g.cluster_size())};
    CO_TRY_VOID(co_await state_.file.read_bytes(offset, page.bytes));
    if (!is_all_zero(page.bytes)) item.bits->load_page(i, std::move(page));
  }
  std::sort(item.clusters.begin(), item.clusters.end());
  auto twice = std::adjacent_find(item.clusters.begin(), item.clusters.end());
  if (twice != item.clusters.end()) {
    co_return make_error(ErrorKind::kCorrupt, "Bitmap '{}' uses the cluster at {:#x} twice",
                         item.name(), *twice);
  }
  co_return Result<void>();
}

Async<> BitmapStore::load_bits(Item& item) {
  if (item.bits) co_return Result<void>();
  const uint64_t cluster = state_.geometry().cluster_size();
  DirtyBitmap empty(state_.size, item.entry.info.granularity_bits, cluster);
  if (item.entry.table_entries != empty.page_count()) {
    co_return make_error(ErrorKind::kCorrupt, "The table of bitmap '{}' has {} entries, not {}",
                         item.name(), item.entry.table_entries, empty.page_count());
  }
  if (item.entry.table_entries != 0 && !is_ours(item.entry.table())) {
    co_return make_error(ErrorKind::kCorrupt, "The table of bitmap '{}' cannot be at {:#x}",
                         item.name(), item.entry.table_offset);
  }
  CO_TRY(std::vector<uint64_t> table, co_await load_table(item));
  const auto used = [](uint64_t entry) { return entry > format::kBitmapAllOnes; };
  const auto clusters = static_cast<uint64_t>(std::count_if(table.begin(), table.end(), used));
  if (clusters > state_.geometry().clusters_for(state_.file.size())) {
    co_return make_error(ErrorKind::kCorrupt, "Bitmap '{}' is larger than the file", item.name());
  }
  item.bits = std::move(empty);
  Result<void> loaded = co_await load_pages(item, table);
  if (!loaded.ok()) {
    item.bits.reset();
    item.clusters.clear();
  }
  co_return loaded;
}

}  // namespace calf::qcow2
