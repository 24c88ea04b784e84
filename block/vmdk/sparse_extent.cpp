#include "block/vmdk/sparse_extent.h"

#include <libdeflate.h>

#include <algorithm>

namespace calf::vmdk {
namespace {

using namespace format;

// Tables kept at a time (2 KiB each).
constexpr size_t kCachedTables = 2048;
constexpr uint64_t kMaxCapacity = uint64_t{1} << 54;

Async<> read_bytes(block::Node& file, uint64_t offset, std::span<uint8_t> to) {
  FlatIo io(to);
  co_return co_await file.read(offset, io.slice());
}

template <class T>
std::span<uint8_t> bytes_of(T& value) {
  return {reinterpret_cast<uint8_t*>(&value), sizeof value};
}

// Sectors to bytes; nothing if that leads behind `limit`.
std::optional<uint64_t> place(uint64_t sector, uint64_t length, uint64_t limit) {
  uint64_t offset = 0;
  if (__builtin_mul_overflow(sector, kSector, &offset)) return std::nullopt;
  if (offset > limit || length > limit - offset) return std::nullopt;
  return offset;
}

Error corrupt(std::string_view what) {
  return make_error(ErrorKind::kCorrupt, "vmdk: {}", what);
}

// Bytes that came out, or nothing.
std::optional<size_t> inflate(std::span<const uint8_t> from, std::span<uint8_t> to) {
  std::unique_ptr<libdeflate_decompressor, void (*)(libdeflate_decompressor*)> decompressor(
      libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
  size_t size = 0;
  if (!decompressor ||
      libdeflate_zlib_decompress(decompressor.get(), from.data(), from.size(), to.data(), to.size(),
                                 &size) != LIBDEFLATE_SUCCESS) {
    return std::nullopt;
  }
  return size;
}

}  // namespace

// The header that counts: the first, or the one that the end of a stream has.
Async<SparseHeader> SparseExtent::read_header() {
  SparseHeader header{};
  CO_TRY_VOID(co_await read_bytes(file_, 0, bytes_of(header)));
  if (header.magic == kMagicCowd) {
    co_return Error(ErrorKind::kUnsupported, "vmdk images of ESX 2 (COWD) are not supported");
  }
  if (header.magic != kMagic) co_return Error(ErrorKind::kCorrupt, "Image is not in VMDK format");
  if (header.directory_offset != kDirectoryAtEnd) co_return header;

  struct {
    Marker marker;
    SparseHeader header;
    Marker end;
  } footer{};
  static_assert(sizeof footer == 3 * kSector);
  if (file_.size() < sizeof(SparseHeader) + sizeof footer)
    co_return corrupt("The footer is missing");
  uint64_t offset = file_.size() - sizeof footer;
  CO_TRY_VOID(co_await read_bytes(file_, offset, bytes_of(footer)));
  bool good = footer.header.magic == kMagic && footer.marker.size == 0U &&
              footer.marker.type == kMarkerFooter && footer.end.sectors == 0U &&
              footer.end.size == 0U && footer.end.type == kMarkerEnd &&
              footer.header.directory_offset != kDirectoryAtEnd;
  if (!good) co_return corrupt("The footer is not valid: the file may be cut off");
  // Where the text is only the first header knows.
  footer.header.descriptor_offset = header.descriptor_offset.value();
  footer.header.descriptor_size = header.descriptor_size.value();
  co_return footer.header;
}

Result<void> SparseExtent::check(const SparseHeader& header) const {
  if (header.version > kMaxVersion) {
    return make_error(ErrorKind::kUnsupported, "Unsupported VMDK version {}",
                      header.version.value());
  }
  constexpr uint8_t kLineEnds[] = {'\n', ' ', '\r', '\n'};
  if ((header.flags & kNewlineTest) != 0 &&
      !std::equal(std::begin(kLineEnds), std::end(kLineEnds), header.line_ends)) {
    return corrupt("Its line ends were changed: it was transferred as text");
  }
  if (header.table_entries == 0U || header.table_entries > kMaxTableEntries) {
    return corrupt("The size of its grain tables is not valid");
  }
  if (header.grain_size == 0U || header.grain_size > kMaxGrainSectors ||
      !is_power_of_two(header.grain_size)) {
    return Error(ErrorKind::kCorrupt, "Invalid granularity, image may be corrupt");
  }
  if (header.capacity > kMaxCapacity) return corrupt("The disk is too large");
  if ((header.flags & kCompressed) != 0) {
    if ((header.flags & kMarkers) == 0 || header.compression != kDeflate) {
      return Error(ErrorKind::kUnsupported, "vmdk: unknown kind of compression");
    }
    if (header.grain_size * kSector > kMaxCompressedGrain) {
      return make_error(ErrorKind::kUnsupported, "vmdk: compressed grains above {} bytes",
                        kMaxCompressedGrain);
    }
  }
  return {};
}

Async<> SparseExtent::read_directory(const SparseHeader& header) {
  uint64_t per_table = uint64_t{grain_} * table_entries_;
  uint64_t count = div_round_up(capacity_, per_table);
  uint64_t bytes = count * sizeof(le32);
  if (bytes > kMaxDirectoryBytes) {
    co_return Error(ErrorKind::kCorrupt, "L1 size too big");
  }
  std::optional<uint64_t> offset = place(header.directory_offset, bytes, file_.size());
  if (!offset) co_return corrupt("The grain directory lies outside of the file");
  directory_.resize(count);
  std::span<uint8_t> to(reinterpret_cast<uint8_t*>(directory_.data()), bytes);
  co_return co_await read_bytes(file_, *offset, to);
}

Async<std::unique_ptr<SparseExtent>> SparseExtent::open(block::Node& file) {
  std::unique_ptr<SparseExtent> extent(new SparseExtent(file));
  CO_TRY(SparseHeader header, co_await extent->read_header());
  CO_TRY_VOID(extent->check(header));
  extent->capacity_ = header.capacity * kSector;
  extent->grain_ = static_cast<uint32_t>(header.grain_size * kSector);
  extent->table_entries_ = header.table_entries;
  extent->zero_grains_ = (header.flags & kZeroGrains) != 0;
  extent->compressed_ = (header.flags & kCompressed) != 0;
  if (header.descriptor_offset != 0U) {
    uint64_t length =
        std::min<uint64_t>(header.descriptor_size, kMaxDescriptor / kSector) * kSector;
    std::optional<uint64_t> offset = place(header.descriptor_offset, length, file.size());
    if (!offset) co_return corrupt("The descriptor lies outside of the file");
    extent->descriptor_ = {*offset, length};
  }
  CO_TRY_VOID(co_await extent->read_directory(header));
  co_return extent;
}

Async<std::optional<std::string>> SparseExtent::read_descriptor() {
  if (descriptor_.empty()) co_return std::optional<std::string>();
  std::string text(descriptor_.length, '\0');
  std::span<uint8_t> to(reinterpret_cast<uint8_t*>(text.data()), text.size());
  CO_TRY_VOID(co_await read_bytes(file_, descriptor_.offset, to));
  co_return std::optional<std::string>(std::move(text));
}

Async<std::shared_ptr<const SparseExtent::Table>> SparseExtent::table(uint64_t index) {
  std::shared_ptr<const Table> none;
  uint32_t sector = directory_[index];
  if (sector == 0) co_return none;
  auto found = tables_.find(index);
  if (found != tables_.end()) co_return found->second;
  auto fresh = std::make_shared<Table>(table_entries_);
  size_t bytes = fresh->size() * sizeof(le32);
  std::optional<uint64_t> offset = place(sector, bytes, file_.size());
  if (!offset) co_return corrupt("A grain table lies outside of the file");
  std::span<uint8_t> to(reinterpret_cast<uint8_t*>(fresh->data()), bytes);
  CO_TRY_VOID(co_await read_bytes(file_, *offset, to));
  if (tables_.size() >= kCachedTables) tables_.clear();
  std::shared_ptr<const Table> kept = std::move(fresh);
  tables_[index] = kept;
  co_return kept;
}

Result<GrainRun> SparseExtent::classify(uint32_t entry, uint64_t grain_start) const {
  GrainRun run;
  run.range = {grain_start, std::min<uint64_t>(grain_, capacity_ - grain_start)};
  if (entry == kUnallocated) return run;
  if (entry == kZeroGrain && zero_grains_) {
    run.kind = GrainKind::kZero;
    return run;
  }
  uint64_t least = compressed_ ? sizeof(GrainMarker) : 1;
  std::optional<uint64_t> offset = place(entry, least, file_.size());
  if (!offset) return corrupt("A grain lies outside of the file");
  run.kind = compressed_ ? GrainKind::kCompressed : GrainKind::kPlain;
  run.host_offset = *offset;
  return run;
}

Async<GrainRun> SparseExtent::locate(ByteRange range) {
  uint64_t per_table = uint64_t{grain_} * table_entries_;
  uint64_t index = range.offset / per_table;
  CO_TRY(std::shared_ptr<const Table> entries, co_await table(index));
  uint64_t table_start = index * per_table;
  if (!entries) {
    GrainRun hole;
    uint64_t end = std::min(range.end(), table_start + per_table);
    hole.range = {range.offset, end - range.offset};
    co_return hole;
  }
  uint64_t slot = (range.offset - table_start) / grain_;
  CO_TRY(GrainRun run, classify((*entries)[slot], table_start + slot * grain_));
  uint64_t skip = range.offset - run.range.offset;
  // Following grains of the same kind, in the file too, belong to the run.
  while (run.kind != GrainKind::kCompressed && ++slot < table_entries_ &&
         run.range.end() < range.end()) {
    CO_TRY(GrainRun next, classify((*entries)[slot], run.range.end()));
    bool joins = next.kind == run.kind && (run.kind != GrainKind::kPlain ||
                                           next.host_offset == run.host_offset + run.range.length);
    if (!joins) break;
    run.range.length += next.range.length;
  }
  if (run.kind == GrainKind::kPlain) run.host_offset += skip;
  run.range.offset += skip;
  run.range.length -= skip;
  run.range = run.range.intersect(range);
  co_return run;
}

Async<> SparseExtent::read_compressed(Executor& executor, uint64_t host_offset, uint64_t skip,
                                      IoSlice to) {
  GrainMarker marker{};
  CO_TRY_VOID(co_await read_bytes(file_, host_offset, bytes_of(marker)));
  uint64_t data_offset = host_offset + sizeof marker;
  uint64_t size = marker.size;
  // Deflate makes nothing much larger than it was.
  bool fits = size != 0 && size <= 2 * uint64_t{grain_} && data_offset <= file_.size() &&
              size <= file_.size() - data_offset;
  if (!fits) co_return corrupt("The size of a compressed grain is not valid");
  std::vector<uint8_t> packed(size);
  CO_TRY_VOID(co_await read_bytes(file_, data_offset, packed));
  std::vector<uint8_t> plain(grain_);
  std::optional<size_t> count =
      co_await executor.offload([&packed, &plain] { return inflate(packed, plain); });
  if (!count || skip > *count || to.size() > *count - skip) {
    co_return corrupt("A compressed grain does not unpack");
  }
  to.copy_from(std::span<const uint8_t>(plain).subspan(skip, to.size()));
  co_return Result<void>();
}

}  // namespace calf::vmdk
