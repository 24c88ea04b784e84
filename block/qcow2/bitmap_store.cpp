#include "block/qcow2/bitmap_store.h"

#include <algorithm>

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

}  // namespace calf::qcow2
