// BitmapStore: bits, tables and directory into the file, in the order of bitmap_store.h.
#include "block/qcow2/bitmap_store.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {

Async<uint64_t> BitmapStore::allocate(uint64_t bytes, std::vector<ByteRange>* made) {
  const Geometry& g = state_.geometry();
  const uint64_t clusters = g.clusters_for(bytes);
  CO_TRY(uint64_t offset, co_await state_.parts->allocator.allocate_contiguous(clusters, "bitmap"));
  made->push_back({offset, clusters << g.cluster_bits});
  co_return offset;
}

Async<> BitmapStore::write_item(Item& item, std::vector<ByteRange>* made) {
  const uint64_t cluster = state_.geometry().cluster_size();
  std::vector<uint64_t> clusters;
  std::vector<be64> table(item.bits->page_count());
  for (const auto& [number, page] : item.bits->pages()) {
    if (page.ones) {
      table[number] = format::kBitmapAllOnes;
      continue;
    }
    CO_TRY(uint64_t offset, co_await allocate(cluster, made));
    CO_TRY_VOID(co_await state_.file.write_bytes(offset, page.bytes));
    table[number] = offset;
    clusters.push_back(offset);
  }
  std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(table.data()), table.size() * 8);
  uint64_t place = 0;
  if (!bytes.empty()) {
    CO_TRY(place, co_await allocate(bytes.size(), made));
    CO_TRY_VOID(co_await state_.file.write_bytes(place, bytes));
  }
  discard_old(item);
  item.clusters = std::move(clusters);
  item.entry.table_offset = place;
  item.entry.table_entries = static_cast<uint32_t>(table.size());
  co_return Result<void>();
}

Async<> BitmapStore::write_items(std::vector<ByteRange>* made) {
  for (size_t i = 0; i < items_.size(); ++i) {
    if (items_[i].changed) CO_TRY_VOID(co_await write_item(items_[i], made));
  }
  co_return Result<void>();
}

Async<std::optional<BitmapDirectoryPlace>> BitmapStore::write_directory(
    std::vector<ByteRange>* made) {
  if (items_.empty()) co_return std::optional<BitmapDirectoryPlace>();
  std::vector<BitmapEntry> entries;
  for (const Item& item : items_)
    entries.push_back(item.entry);
  std::vector<uint8_t> bytes = serialize_bitmap_directory(entries);
  if (bytes.size() > format::kMaxBitmapDirectoryBytes) {
    co_return make_error(ErrorKind::kNoSpace, "The bitmap directory would be too large");
  }
  CO_TRY(uint64_t offset, co_await allocate(bytes.size(), made));
  CO_TRY_VOID(co_await state_.file.write_bytes(offset, bytes));
  co_return std::optional(
      BitmapDirectoryPlace{static_cast<uint32_t>(entries.size()), {offset, bytes.size()}});
}

Async<> BitmapStore::switch_directory(std::optional<BitmapDirectoryPlace> place) {
  HeaderFile& header = state_.header;
  if ((header.get().autoclear & format::kBitmaps) != 0) {
    std::function<void(Header&)> off = [](Header& h) { h.autoclear &= ~format::kBitmaps; };
    CO_TRY_VOID(co_await header.update(off));
    CO_TRY_VOID(co_await state_.file.flush());
  }
  std::function<void(Header&)> point = [place](Header& h) {
    std::erase_if(h.extensions, [](const Extension& e) { return e.type == format::kExtBitmaps; });
    if (place) h.extensions.push_back(make_bitmaps_extension(*place));
  };
  CO_TRY_VOID(co_await header.rewrite(point));
  if (!place) co_return Result<void>();
  std::function<void(Header&)> on = [](Header& h) { h.autoclear |= format::kBitmaps; };
  CO_TRY_VOID(co_await header.update(on));
  co_return co_await state_.file.flush();
}

Async<> BitmapStore::store() {
  bool changed = list_changed_;
  for (const Item& item : items_)
    changed |= item.changed;
  if (!changed) co_return Result<void>();
  Parts& parts = *state_.parts;
  CO_TRY_VOID(co_await parts.write_back.before_change());

  std::vector<ByteRange> made;
  std::optional<BitmapDirectoryPlace> place;
  Result<void> written = co_await write_items(&made);
  if (written.ok()) {
    Result<std::optional<BitmapDirectoryPlace>> directory = co_await write_directory(&made);
    if (directory.ok()) {
      place = *directory;
      written = co_await parts.write_back.flush();
    } else {
      written = std::move(directory.error());
    }
  }
  if (!written.ok()) {
    // The file says still what it said; in memory nothing of it is used any more.
    for (ByteRange range : made)
      co_await parts.allocator.undo(range);
    co_return written;
  }
  CO_TRY_VOID(co_await switch_directory(place));

  if (directory_) {
    parts.map.remove_area(Area::kBitmapDirectory, directory_->range.offset);
    old_.push_back(directory_->range);
  }
  if (place) parts.map.add_area(Area::kBitmapDirectory, place->range);
  parts.map.seal();
  for (ByteRange range : std::exchange(old_, {}))
    parts.allocator.free_later(range, false);
  directory_ = place;
  on_disk_.clear();
  for (size_t i = 0; i < items_.size(); ++i) {
    items_[i].disk_index = i;
    items_[i].changed = items_[i].marked = false;
    on_disk_.push_back(items_[i].entry);
  }
  list_changed_ = recording_ = false;
  co_return Result<void>();
}

}  // namespace calf::qcow2
