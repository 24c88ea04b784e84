#include "block/qcow2/header_file.h"

#include <algorithm>

namespace calf::qcow2 {

Async<> HeaderFile::load() {
  std::vector<uint8_t> cluster0(std::min<uint64_t>(file_.size(), sizeof(format::Header)));
  CO_TRY_VOID(co_await file_.read_bytes(0, cluster0));
  CO_TRY(uint64_t area, header_area_size(cluster0));
  cluster0.resize(std::min(file_.size(), area));
  CO_TRY_VOID(co_await file_.read_bytes(0, cluster0));
  CO_TRY(header_, parse_header(cluster0));
  size_t length =
      header_.geometry.version >= 3 ? format::kHeaderLengthV3Min : format::kHeaderLengthV2;
  raw_.assign(cluster0.begin(), cluster0.begin() + static_cast<ptrdiff_t>(length));
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

}  // namespace calf::qcow2
