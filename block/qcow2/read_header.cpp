#include "block/qcow2/read_header.h"

#include <algorithm>

namespace calf::qcow2 {

Async<HeaderBytes> read_header(block::Node& file) {
  HeaderBytes out;
  out.cluster0.resize(static_cast<size_t>(std::min<uint64_t>(file.size(), sizeof(format::Header))));
  FlatIo first{std::span<uint8_t>(out.cluster0)};
  CO_TRY_VOID(co_await file.read(0, first.slice()));
  CO_TRY(uint64_t area, header_area_size(out.cluster0));
  out.cluster0.resize(static_cast<size_t>(std::min(file.size(), area)));
  FlatIo all{std::span<uint8_t>(out.cluster0)};
  CO_TRY_VOID(co_await file.read(0, all.slice()));
  CO_TRY(out.header, parse_header(out.cluster0));
  co_return out;
}

}  // namespace calf::qcow2
