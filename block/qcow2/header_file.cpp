#include "block/qcow2/header_file.h"

#include <algorithm>

#include "block/qcow2/read_header.h"

namespace calf::qcow2 {
namespace {

// What a disk writes whole or not at all.
constexpr uint64_t kSector = 512;

uint64_t used_bytes(std::span<const uint8_t> cluster0) {
  auto it =
      std::find_if(cluster0.rbegin(), cluster0.rend(), [](uint8_t byte) { return byte != 0; });
  return static_cast<uint64_t>(cluster0.rend() - it);
}

}  // namespace

Async<> HeaderFile::load() {
  CO_TRY(HeaderBytes read, co_await read_header(file_.node()));
  adopt(std::move(read.header), read.cluster0);
  co_return Result<void>();
}

void HeaderFile::adopt(Header header, std::span<const uint8_t> bytes) {
  size_t length =
      header.geometry.version >= 3 ? format::kHeaderLengthV3Min : format::kHeaderLengthV2;
  raw_.assign(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
  header_ = std::move(header);
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

// Durable when it ends.
Async<> HeaderFile::put(uint64_t offset, std::span<const uint8_t> bytes) {
  CO_TRY_VOID(co_await file_.write_bytes(offset, bytes));
  co_return co_await file_.flush();
}

// Afterwards the first sector is that of `header`, and nothing behind it is in use but the backing
// name, at `free_from` or a little behind: its offset is returned. 0 if there is no room.
Async<uint64_t> HeaderFile::cross_bridge(const Header& header, uint64_t free_from) {
  const std::string name = header.backing_name.value_or("");
  const uint64_t place = align_up(std::max(free_from, kSector), 8);
  std::vector<uint8_t> bridge = serialize_short_header(header, place);
  const bool fits =
      bridge.size() <= kSector && place + name.size() <= header.geometry.cluster_size();
  if (!fits) co_return uint64_t{0};
  bridge.resize(kSector);
  if (!name.empty()) {
    std::vector<uint8_t> text(name.begin(), name.end());
    CO_TRY_VOID(co_await put(place, text));
  }
  CO_TRY_VOID(co_await put(0, bridge));
  adopt(header, bridge);
  co_return place;
}

Async<> HeaderFile::rewrite(std::function<void(Header&)> change) {
  AsyncMutex::Guard guard = co_await mutex_.lock();
  Header header = header_;
  change(header);
  CO_TRY(std::vector<uint8_t> bytes, serialize_header(header));
  std::vector<uint8_t> old(header.geometry.cluster_size());
  CO_TRY_VOID(co_await file_.read_bytes(0, old));
  // What is not used any more becomes zeroes.
  bytes.resize(std::max<uint64_t>(bytes.size(), used_bytes(old)));
  const std::span<const uint8_t> all(bytes);
  const size_t first = std::min<size_t>(all.size(), kSector);
  const std::span<const uint8_t> rest = all.subspan(first);
  uint64_t bridge = 0;
  if (!std::equal(rest.begin(), rest.end(), old.begin() + static_cast<ptrdiff_t>(first))) {
    CO_TRY(bridge, co_await cross_bridge(header, all.size()));
    CO_TRY_VOID(co_await put(kSector, rest));
  }
  CO_TRY_VOID(co_await put(0, all.first(first)));
  adopt(std::move(header), all);
  if (bridge != 0 && header_.backing_name) {
    std::vector<uint8_t> zeroes(header_.backing_name->size());
    CO_TRY_VOID(co_await file_.write_bytes(bridge, zeroes));
  }
  co_return Result<void>();
}

}  // namespace calf::qcow2
