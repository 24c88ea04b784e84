#include "block/qcow2/header_file.h"

#include "block/qcow2/read_header.h"

namespace calf::qcow2 {
namespace {

// What a disk writes whole or not at all.
constexpr size_t kSector = 512;

}  // namespace

Async<> HeaderFile::load() {
  CO_TRY(HeaderBytes read, co_await read_header(file_.node()));
  header_ = std::move(read.header);
  size_t length =
      header_.geometry.version >= 3 ? format::kHeaderLengthV3Min : format::kHeaderLengthV2;
  raw_.assign(read.cluster0.begin(), read.cluster0.begin() + static_cast<ptrdiff_t>(length));
  co_return Result<void>();
}

Async<> HeaderFile::update(std::function<void(Header&)> change) {
  AsyncMutex::Guard guard = co_await mutex_.lock();
  Header header = header_;
  change(header);
  std::vector<uint8_t> raw = raw_;
  patch_fields(header, raw);
  CO_TRY_VOID(co_await file_.write_bytes(0, raw));
  header_ = std::move(header);
  raw_ = std::move(raw);
  co_return Result<void>();
}

Async<> HeaderFile::move_backing_name(uint64_t free_from) {
  auto* fields = reinterpret_cast<format::Header*>(raw_.data());
  const ByteRange name{fields->backing_name_offset, fields->backing_name_length};
  const ByteRange changing{kSector, free_from - kSector};
  if (name.empty() || !name.overlaps(changing)) co_return Result<void>();
  const uint64_t place = align_up(std::max(free_from, name.end()), 8);
  // Without room it is overwritten where it stands.
  if (place + name.length > header_.geometry.cluster_size()) co_return Result<void>();
  std::vector<uint8_t> bytes(name.length);
  CO_TRY_VOID(co_await file_.read_bytes(name.offset, bytes));
  CO_TRY_VOID(co_await file_.write_bytes(place, bytes));
  CO_TRY_VOID(co_await file_.flush());
  std::vector<uint8_t> raw = raw_;
  reinterpret_cast<format::Header*>(raw.data())->backing_name_offset = place;
  CO_TRY_VOID(co_await file_.write_bytes(0, raw));
  CO_TRY_VOID(co_await file_.flush());
  raw_ = std::move(raw);
  co_return Result<void>();
}

Async<> HeaderFile::rewrite(std::function<void(Header&)> change) {
  AsyncMutex::Guard guard = co_await mutex_.lock();
  Header header = header_;
  change(header);
  CO_TRY(std::vector<uint8_t> bytes, serialize_header(header));
  std::span<const uint8_t> all = bytes;
  if (all.size() > kSector) {
    CO_TRY_VOID(co_await move_backing_name(all.size()));
    CO_TRY_VOID(co_await file_.write_bytes(kSector, all.subspan(kSector)));
    CO_TRY_VOID(co_await file_.flush());
  }
  CO_TRY_VOID(co_await file_.write_bytes(0, all.first(std::min(all.size(), kSector))));
  header_ = std::move(header);
  raw_.assign(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(raw_.size()));
  co_return co_await file_.flush();
}

}  // namespace calf::qcow2
