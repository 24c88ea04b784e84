#include "block/qcow2/image.h"

#include <algorithm>
#include <cassert>

#include "block/qcow2/check.h"
#include "block/qcow2/image_state.h"
#include "block/qcow2/snapshot.h"
#include "block/qcow2/snapshot_table.h"

namespace calf::qcow2 {
namespace {

Async<> failed(Error error) {
  co_return error;
}

Result<void> check_features(const Header& header, const OpenOptions& options) {
  if (options.writable && !options.for_check && header.has(format::kCorrupt)) {
    return make_error(ErrorKind::kCorrupt, "qcow2: Image is corrupt; cannot be opened read/write");
  }
  return {};
}

Async<> load_bitmap_list(Image::State& state) {
  const Header& header = state.header.get();
  CO_TRY(auto place, bitmap_directory_place(header, state.file.size()));
  if (!place) co_return Result<void>();
  CO_TRY(auto entries, co_await read_bitmap_directory(state.file, header, *place));
  state.bitmaps.adopt(std::move(entries));
  co_return Result<void>();
}

Async<> load_lists(Image::State& state, SnapshotTable* table) {
  // A check reads the lists itself, and tells what is wrong with them.
  if (state.options.for_check) co_return Result<void>();
  const Header& header = state.header.get();
  CO_TRY(*table, co_await read_snapshot_table(state.file, header));
  state.snapshots = table->entries;
  state.snapshot_table_bytes = table->bytes;
  Result<void> bitmaps = co_await load_bitmap_list(state);
  // Otherwise the image is one whose bitmaps are not understood: check says so.
  if (!state.options.for_check) co_return bitmaps;
  co_return Result<void>();
}

// Where metadata stands, for the check before every write. O(entries of L1 and refcount table).
void fill_map(Image::State& state, const SnapshotTable& snapshots) {
  const Header& header = state.header.get();
  const Geometry& g = header.geometry;
  const uint64_t file_size = state.file.size();
  MetadataMap& map = state.parts->map;
  map.add_area(Area::kHeader, {0, g.cluster_size()});
  map.add_area(Area::kActiveL1, {header.l1_offset, uint64_t{header.l1_entries} * 8});
  map.add_area(Area::kRefcountTable, {header.refcount_table_offset,
                                      uint64_t{header.refcount_table_clusters} << g.cluster_bits});
  if (auto place = encryption_header_place(header, file_size); place.ok() && *place) {
    map.add_area(Area::kEncryptionHeader, **place);
  }
  map.add_area(Area::kSnapshotTable, {header.snapshots_offset, snapshots.bytes});
  for (const SnapshotInfo& snapshot : snapshots.entries) {
    ByteRange l1{snapshot.l1_offset, uint64_t{snapshot.l1_entries} * 8};
    // A damaged entry is check's business.
    if (l1.offset < file_size && l1.length <= format::kMaxL1Bytes) {
      map.add_area(Area::kInactiveL1, l1);
    }
  }
  if (auto place = bitmap_directory_place(header, file_size); place.ok() && *place) {
    map.add_area(Area::kBitmapDirectory, (*place)->range);
  }
  map.seal();
  const L1Table& l1 = state.parts->mapping.l1();
  for (uint64_t i = 0; i < l1.size(); ++i) {
    uint64_t offset = l1.get(i).offset;
    if (offset != 0) map.add_table(Area::kActiveL2, offset);
  }
  for (uint64_t offset : state.parts->refcounts.table()) {
    if (offset == 0) continue;
    if (map.is_table(Area::kRefcountBlock, offset)) state.parts->refcounts.set_aliased();
    map.add_table(Area::kRefcountBlock, offset);
  }
}

Async<> load_parts(Image::State& state, const SnapshotTable& snapshots) {
  const Header& header = state.header.get();
  state.parts = std::make_unique<Parts>(state.executor, state.file, state.header, state.health,
                                        state.options);
  CO_TRY_VOID(
      co_await state.parts->mapping.l1().load(state.file, header.l1_offset, header.l1_entries));
  if (state.options.writable || state.options.for_check) {
    CO_TRY_VOID(co_await state.parts->refcounts.load(header.refcount_table_offset,
                                                     header.refcount_table_clusters));
  }
  if (state.options.writable) fill_map(state, snapshots);
  co_return Result<void>();
}

// Bitmaps whose autoclear bit another writer cleared are gone for good.
Async<> drop_lost_bitmaps(Image::State& state) {
  const Header& header = state.header.get();
  if (header.find(format::kExtBitmaps) != nullptr && (header.autoclear & format::kBitmaps) == 0) {
    std::function<void(Header&)> drop = [](Header& h) {
      std::erase_if(h.extensions, [](const Extension& e) { return e.type == format::kExtBitmaps; });
    };
    CO_TRY_VOID(co_await state.header.rewrite(drop));
  }
  co_return Result<void>();
}

// The format wants autoclear bits of features that the writer does not maintain cleared before the
// first write.
Async<> clear_autoclear(Image::State& state) {
  constexpr uint64_t kMaintained = format::kBitmaps | format::kRawExternalData;
  const Header& header = state.header.get();
  if ((header.autoclear & ~kMaintained) == 0) co_return Result<void>();
  std::function<void(Header&)> change = [](Header& h) { h.autoclear &= kMaintained; };
  CO_TRY_VOID(co_await state.header.update(change));
  co_return co_await state.file.flush();
}

// Damage was found and the image is not to be written any more: the header says so from now on.
Async<> settle(Image::State& state, Result<void> result) {
  if (state.health.poisoned() && !state.header_says_corrupt) {
    state.header_says_corrupt = true;
    if (state.geometry().version >= 3) {
      std::function<void(Header&)> change = [](Header& h) { h.incompatible |= format::kCorrupt; };
      Result<void> written = co_await state.header.update(change);
      if (written.ok()) written = co_await state.file.flush();
      if (!written.ok())
        state.health.say("qcow2: Could not set the corrupt bit: " + written.error().message());
    }
  }
  co_return result;
}

}  // namespace

Result<void> Image::State::check_writable() const {
  if (!options.writable) return make_error(ErrorKind::kReadOnly, "The image is opened read-only");
  if (health.poisoned()) {
    return make_error(ErrorKind::kCorrupt,
                      "The image was found damaged and is not written any more");
  }
  return {};
}

Result<void> Image::State::check_range(uint64_t offset, uint64_t length) const {
  if (geometry().external_data && !data_file) {
    return make_error(ErrorKind::kInvalid, "'data-file' is required for this image");
  }
  if (offset <= size && length <= size - offset) return {};
  return make_error(ErrorKind::kInvalid, "Request past the end of the disk");
}

Image::Image(std::unique_ptr<State> state) : state_(std::move(state)) {}
Image::~Image() = default;

Async<std::unique_ptr<Image>> Image::open(Executor& executor, std::unique_ptr<block::Node> file,
                                          OpenOptions options) {
  auto state = std::make_unique<State>(executor, std::move(file), std::move(options));
  CO_TRY_VOID(co_await state->header.load());
  const Header& header = state->header.get();
  CO_TRY_VOID(check_features(header, state->options));
  CO_TRY_VOID(validate_tables(header, state->file.size(), !state->options.for_check));
  state->size = header.size;
  state->limits.cluster_size = static_cast<uint32_t>(header.geometry.cluster_size());
  state->limits.discard_granularity = state->limits.cluster_size;
  state->limits.memory_alignment = state->file.node().limits().memory_alignment;
  SnapshotTable snapshots;
  CO_TRY_VOID(co_await load_lists(*state, &snapshots));
  if (!state->options.info_only) CO_TRY_VOID(co_await load_parts(*state, snapshots));
  CO_TRY_VOID(co_await open_encryption(*state));

  std::unique_ptr<Image> image(new Image(std::move(state)));
  State& s = *image->state_;
  if (s.options.writable) CO_TRY_VOID(co_await clear_autoclear(s));
  if (s.options.writable && !s.options.for_check) {
    CO_TRY_VOID(co_await drop_lost_bitmaps(s));
    if (s.header.get().has(format::kDirty)) CO_TRY_VOID(co_await repair_dirty(*image));
  }
  co_return image;
}

const std::optional<std::string>& Image::backing_name() const {
  return state_->header.get().backing_name;
}
const std::optional<std::string>& Image::backing_format() const {
  return state_->header.get().backing_format;
}
std::optional<std::vector<uint8_t>> Image::base_fingerprint() const {
  const Extension* noted = state_->header.get().find(format::kExtBaseFingerprint);
  return noted != nullptr ? std::optional(noted->data) : std::nullopt;
}
void Image::set_backing(std::unique_ptr<block::Node> backing) {
  state_->backing = std::move(backing);
}
std::optional<std::string> Image::data_file_name() const {
  const Header& header = state_->header.get();
  if (!header.has(format::kExternalData)) return std::nullopt;
  return header.data_file_name().value_or("");
}
void Image::set_data_file(std::unique_ptr<block::Node> data) {
  state_->data_file = std::make_unique<HostFile>(std::move(data), state_->options.unsafe_no_flush);
  state_->guest_data.set_file(*state_->data_file);
  if (state_->parts) state_->parts->write_back.set_data_file(state_->data_file.get());
}
block::Node& Image::data_file() const {
  return state_->data().node();
}
BitmapStore& Image::bitmaps() const {
  return state_->bitmaps;
}
block::Node* Image::backing() const {
  return state_->backing.get();
}
block::Node& Image::file() const {
  return state_->file.node();
}
uint64_t Image::size() const {
  return state_->size;
}
const block::Limits& Image::limits() const {
  return state_->limits;
}
bool Image::read_only() const {
  // Asked for each layer that a read passes: no text is made for it.
  return !state_->options.writable || state_->health.poisoned();
}
const std::string& Image::name() const {
  return state_->file.node().name();
}

ImageInfo Image::info() const {
  const Header& header = state_->header.get();
  ImageInfo info;
  info.version = header.geometry.version;
  info.virtual_size = header.size;
  info.cluster_size = static_cast<uint32_t>(header.geometry.cluster_size());
  info.refcount_bits = header.geometry.refcount_bits();
  info.compression = header.compression;
  info.encryption = header.encryption;
  if (state_->luks) info.luks = state_->luks->header;
  info.lazy_refcounts = (header.compatible & format::kLazyRefcounts) != 0;
  info.dirty = header.has(format::kDirty);
  info.corrupt = header.has(format::kCorrupt);
  info.extended_l2 = header.has(format::kExtendedL2);
  info.has_data_file = header.has(format::kExternalData);
  info.data_file_raw = (header.autoclear & format::kRawExternalData) != 0;
  info.data_file = header.data_file_name();
  info.backing_name = header.backing_name;
  info.backing_format = header.backing_format;
  info.snapshots = state_->snapshots;
  info.bitmaps = state_->bitmaps.infos();
  return info;
}

Async<> Image::read(uint64_t offset, IoSlice to) {
  Result<void> inside = state_->check_range(offset, to.size());
  if (!inside.ok()) return failed(std::move(inside.error()));
  if (state_->encrypted) return state_->encrypted->sectors().read(offset, to);
  return read_guest(*state_, offset, to);
}

Async<> Image::write(uint64_t offset, IoSlice from, block::WriteFlags flags) {
  CO_TRY_VOID(state_->check_range(offset, from.size()));
  CO_TRY_VOID(state_->check_writable());
  ByteRange changing{offset, from.size()};
  CO_TRY_VOID(co_await state_->bitmaps.before_write(changing));
  Async<> work = state_->encrypted ? state_->encrypted->sectors().write(offset, from)
                                   : write_guest(*state_, offset, from, flags);
  Result<void> written = co_await work;
  if (!written.ok()) co_return co_await settle(*state_, std::move(written));
  if (flags.fua) co_return co_await flush();
  co_return written;
}

Async<> Image::write_compressed(uint64_t offset, IoSlice from) {
  CO_TRY_VOID(state_->check_range(offset, from.size()));
  CO_TRY_VOID(state_->check_writable());
  if (state_->guest_data.encrypted()) {
    co_return make_error(ErrorKind::kUnsupported,
                         "Compression and encryption not supported at the same time");
  }
  const uint64_t cluster = state_->geometry().cluster_size();
  if (!is_aligned(offset, cluster) || from.empty() || from.size() > cluster ||
      (from.size() < cluster && offset + from.size() != state_->size)) {
    co_return make_error(ErrorKind::kInvalid, "A compressed write covers exactly one cluster");
  }
  ByteRange changing{offset, from.size()};
  CO_TRY_VOID(co_await state_->bitmaps.before_write(changing));
  Result<void> written = co_await write_guest_compressed(*state_, offset, from);
  if (!written.ok()) co_return co_await settle(*state_, std::move(written));
  co_return written;
}

Async<> Image::write_zeroes(ByteRange range, block::ZeroFlags flags) {
  CO_TRY_VOID(state_->check_range(range.offset, range.length));
  CO_TRY_VOID(state_->check_writable());
  if (range.empty()) co_return Result<void>();
  CO_TRY_VOID(co_await state_->bitmaps.before_write(range));
  Async<> work = state_->encrypted ? state_->encrypted->sectors().write_zeroes(range, flags)
                                   : zero_guest(*state_, range, flags.may_unmap);
  Result<void> done = co_await work;
  if (!done.ok()) co_return co_await settle(*state_, std::move(done));
  if (flags.fua) co_return co_await flush();
  co_return done;
}

Async<> Image::discard(ByteRange range) {
  CO_TRY_VOID(state_->check_range(range.offset, range.length));
  CO_TRY_VOID(state_->check_writable());
  if (range.empty()) co_return Result<void>();
  CO_TRY_VOID(co_await state_->bitmaps.before_write(range));
  Result<void> done = co_await discard_guest(*state_, range);
  if (!done.ok()) co_return co_await settle(*state_, std::move(done));
  co_return done;
}

Async<> Image::flush() {
  if (!state_->options.writable) co_return Result<void>();
  Result<void> done = co_await state_->parts->write_back.flush();
  co_return co_await settle(*state_, std::move(done));
}

Async<block::Extent> Image::map(ByteRange range) {
  CO_TRY_VOID(state_->check_range(range.offset, range.length));
  co_return co_await map_guest(*state_, range);
}

std::optional<block::Extent> Image::known(ByteRange range) {
  if (!state_->check_range(range.offset, range.length).ok()) return std::nullopt;
  return known_extent(*state_, range);
}

Async<> Image::truncate(uint64_t size, block::Preallocation preallocation) {
  CO_TRY_VOID(state_->check_range(0, 0));
  CO_TRY_VOID(state_->check_writable());
  Result<void> done = co_await resize(*state_, size, preallocation);
  co_return co_await settle(*state_, std::move(done));
}

BackingRecord Image::backing_record() const {
  return {backing_name(), backing_format(), base_fingerprint()};
}

Async<> Image::record_backing(BackingRecord record) {
  CO_TRY_VOID(state_->check_writable());
  if (record.name && record.name->size() > format::kMaxBackingName) {
    co_return make_error(ErrorKind::kInvalid, "Backing file name too long");
  }
  // The mapping was made above the old base.
  CO_TRY_VOID(co_await state_->parts->write_back.flush());
  std::function<void(Header&)> change = [&record](Header& header) {
    header.backing_name = record.name;
    header.backing_format = record.format;
    std::erase_if(header.extensions,
                  [](const Extension& e) { return e.type == format::kExtBaseFingerprint; });
    if (record.fingerprint) {
      header.extensions.push_back({format::kExtBaseFingerprint, *record.fingerprint});
    }
  };
  co_return co_await state_->header.rewrite(change);
}

Async<> Image::make_empty() {
  CO_TRY_VOID(state_->check_writable());
  Result<void> done = co_await qcow2::make_empty(*state_);
  co_return co_await settle(*state_, std::move(done));
}

const std::vector<SnapshotInfo>& Image::snapshots() const {
  return state_->snapshots;
}

Async<> Image::create_snapshot(NewSnapshot snapshot) {
  CO_TRY_VOID(state_->check_writable());
  Result<void> done = co_await qcow2::create_snapshot(*state_, std::move(snapshot));
  co_return co_await settle(*state_, std::move(done));
}

Async<> Image::apply_snapshot(size_t index) {
  CO_TRY_VOID(state_->check_writable());
  Result<void> done = co_await qcow2::apply_snapshot(*state_, index);
  co_return co_await settle(*state_, std::move(done));
}

Async<> Image::delete_snapshot(size_t index) {
  CO_TRY_VOID(state_->check_writable());
  Result<void> done = co_await qcow2::delete_snapshot(*state_, index);
  co_return co_await settle(*state_, std::move(done));
}

Async<> Image::show_snapshot(size_t index) {
  assert(!state_->options.writable);
  return qcow2::show_snapshot(*state_, index);
}

Async<> Image::change_keys(const crypto::LuksKeyChange& change) {
  CO_TRY_VOID(state_->check_writable());
  co_return co_await change_encryption_keys(*state_, change);
}

Async<> Image::close() {
  Result<void> done;
  if (state_->options.writable && state_->parts && !state_->left_behind &&
      !state_->health.poisoned()) {
    if (!state_->options.for_check) {
      done = co_await state_->bitmaps.store();
      Result<void> finished = co_await state_->parts->write_back.finish();
      if (done.ok()) done = std::move(finished);
    }
  }
  done = co_await settle(*state_, std::move(done));
  Result<void> closed = co_await state_->file.close();
  if (done.ok()) done = std::move(closed);
  if (state_->data_file) {
    Result<void> data_closed = co_await state_->data_file->close();
    if (done.ok()) done = std::move(data_closed);
  }
  if (state_->backing) {
    Result<void> backing_closed = co_await state_->backing->close();
    if (done.ok()) done = std::move(backing_closed);
  }
  co_return done;
}

}  // namespace calf::qcow2
