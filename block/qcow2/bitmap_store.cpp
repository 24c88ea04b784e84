#include "block/qcow2/bitmap_store.h"

#include <algorithm>

#include "block/qcow2/census.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {

BitmapStore::BitmapStore(Image::State& state) : state_(state), mutex_(state.executor) {}

void BitmapStore::adopt(std::vector<BitmapEntry> entries) {
  Result<std::optional<BitmapDirectoryPlace>> place =
      bitmap_directory_place(state_.header.get(), state_.file.size());
  if (place.ok()) directory_ = *place;
  for (size_t i = 0; i < entries.size(); ++i) {
    Item item;
    item.entry = entries[i];
    item.disk_index = i;
    items_.push_back(std::move(item));
  }
  on_disk_ = std::move(entries);
}

std::vector<BitmapInfo> BitmapStore::infos() const {
  std::vector<BitmapInfo> out;
  for (const Item& item : items_)
    out.push_back(item.entry.info);
  return out;
}

BitmapStore::Item* BitmapStore::find_item(std::string_view name) {
  auto it = std::find_if(items_.begin(), items_.end(),
                         [&](const Item& item) { return item.name() == name; });
  return it != items_.end() ? &*it : nullptr;
}

namespace {

Error inconsistent(const std::string& name) {
  return make_error(ErrorKind::kCorrupt,
                    "Bitmap '{}' is inconsistent and cannot be used\n"
                    "Try block-dirty-bitmap-remove to delete this bitmap from disk",
                    name);
}

Error not_found(std::string_view name) {
  return make_error(ErrorKind::kNotFound, "Dirty bitmap '{}' not found", name);
}

}  // namespace

Result<BitmapStore::Item*> BitmapStore::find_consistent(std::string_view name) {
  Item* item = find_item(name);
  if (item == nullptr) return not_found(name);
  if (item->inconsistent()) return inconsistent(item->name());
  return item;
}

// ---- Reading ----

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

// ---- Recording ----

Async<> BitmapStore::mark_in_use(bool all) {
  bool marked = false;
  for (size_t i = 0; i < items_.size(); ++i) {
    Item& item = items_[i];
    if (item.marked || item.inconsistent() || (!all && !item.records())) continue;
    Result<void> loaded = co_await load_bits(item);
    if (!loaded.ok()) {
      if (loaded.error().kind() != ErrorKind::kCorrupt) co_return loaded;
      // Nothing that could be kept up to date.
      state_.health.say("qcow2: " + loaded.error().message() +
                        "; the bitmap is marked as inconsistent");
      item.entry.info.in_use = true;
    }
    item.marked = true;
    item.changed = !item.inconsistent();
    if (!item.disk_index) continue;
    BitmapInfo info = item.entry.info;
    info.in_use = true;
    be32 raw = bitmap_flags(info);
    std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(&raw), sizeof raw);
    const uint64_t at = directory_->range.offset + bitmap_flags_offset(on_disk_, *item.disk_index);
    CO_TRY_VOID(co_await state_.file.write_bytes(at, bytes));
    marked = true;
  }
  if (marked) co_return co_await state_.file.flush();
  co_return Result<void>();
}

Async<> BitmapStore::before_write(ByteRange range) {
  if (items_.empty() || range.empty()) co_return Result<void>();
  if (!recording_) {
    AsyncMutex::Guard guard = co_await mutex_.lock();
    if (!recording_) CO_TRY_VOID(co_await mark_in_use(false));
    recording_ = true;
  }
  for (Item& item : items_) {
    if (item.records()) item.bits->set(range);
  }
  co_return Result<void>();
}

Async<> BitmapStore::before_resize() {
  for (const Item& item : items_) {
    if (item.inconsistent()) co_return inconsistent(item.name());
  }
  CO_TRY_VOID(co_await before_replace());
  for (const Item& item : items_) {
    if (item.inconsistent()) co_return inconsistent(item.name());
  }
  co_return Result<void>();
}

Async<> BitmapStore::before_replace() {
  AsyncMutex::Guard guard = co_await mutex_.lock();
  CO_TRY_VOID(co_await mark_in_use(true));
  recording_ = true;
  co_return Result<void>();
}

void BitmapStore::resize(uint64_t disk_size) {
  for (Item& item : items_)
    if (item.bits) item.bits->resize(disk_size);
}

void BitmapStore::replaced(uint64_t disk_size) {
  resize(disk_size);
  for (Item& item : items_)
    if (item.records()) item.bits->set({0, item.bits->disk_size()});
}

// ---- Tools ----

Result<void> BitmapStore::add(const std::string& name, unsigned granularity_bits) {
  if (name.empty()) return make_error(ErrorKind::kInvalid, "Bitmap name cannot be empty");
  if (find_item(name) != nullptr) {
    return make_error(ErrorKind::kExists, "Bitmap already exists: {}", name);
  }
  const char* why = nullptr;
  if (state_.geometry().version < 3) why = "Cannot store dirty bitmaps in qcow2 v2 files";
  if (name.size() > format::kMaxBitmapName) {
    why = "Name length exceeds maximum (1023 characters)";
  }
  if (items_.size() >= format::kMaxBitmaps) {
    why = "Maximum number of persistent bitmaps is already reached";
  }
  Item item;
  item.entry.info = {name, static_cast<uint8_t>(granularity_bits), false, true};
  item.bits.emplace(state_.size, granularity_bits, state_.geometry().cluster_size());
  if (item.bits->page_count() > format::kMaxBitmapBytes / state_.geometry().cluster_size()) {
    why = "Too many bits, use a larger granularity";
  }
  if (why != nullptr) {
    return make_error(ErrorKind::kUnsupported, "Can't make bitmap '{}' persistent in '{}': {}",
                      name, state_.file.node().name(), why);
  }
  item.changed = true;
  items_.push_back(std::move(item));
  list_changed_ = true;
  return {};
}

void BitmapStore::discard_old(const Item& item) {
  if (!item.disk_index) return;
  if (item.entry.table_entries != 0 && is_ours(item.entry.table())) {
    old_.push_back(item.entry.table());
  }
  for (uint64_t offset : item.clusters)
    old_.push_back({offset, state_.geometry().cluster_size()});
}

Async<> BitmapStore::remove(std::string name) {
  Item* item = find_item(name);
  if (item == nullptr) co_return not_found(name);
  if (item->disk_index && !item->bits) {
    // What cannot be read leaks.
    Result<void> loaded = co_await load_bits(*item);
    (void)loaded;
  }
  discard_old(*item);
  items_.erase(items_.begin() + (item - items_.data()));
  list_changed_ = true;
  co_return Result<void>();
}

Async<> BitmapStore::clear(std::string name) {
  CO_TRY(Item * item, find_consistent(name));
  CO_TRY_VOID(co_await load_bits(*item));
  item->bits->clear();
  item->changed = true;
  co_return Result<void>();
}

Async<> BitmapStore::set_recording(std::string name, bool on) {
  CO_TRY(Item * item, find_consistent(name));
  CO_TRY_VOID(co_await load_bits(*item));
  item->entry.info.automatic = on;
  item->changed = true;
  // One that records from now on is marked before the next write.
  recording_ = false;
  co_return Result<void>();
}

Async<> BitmapStore::merge(std::string name, const DirtyBitmap* source) {
  CO_TRY(Item * item, find_consistent(name));
  CO_TRY_VOID(co_await load_bits(*item));
  if (item->bits->disk_size() != source->disk_size()) {
    co_return make_error(ErrorKind::kInvalid,
                         "Bitmaps are of different sizes (destination size is {}, source size is "
                         "{}) and can't be merged",
                         item->bits->disk_size(), source->disk_size());
  }
  if (source != &*item->bits) item->bits->merge(*source);
  item->changed = true;
  co_return Result<void>();
}

Async<const DirtyBitmap*> BitmapStore::bits(std::string name) {
  CO_TRY(Item * item, find_consistent(name));
  CO_TRY_VOID(co_await load_bits(*item));
  const DirtyBitmap* bits = &*item->bits;
  co_return bits;
}

// ---- Storing ----

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
