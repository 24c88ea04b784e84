#include "block/qcow2/read_header.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

namespace calf::qcow2 {
namespace {

// Most headers end within this; clusters are longer, and empty behind them.
constexpr uint64_t kFirstBytes = 4096;

// Where the header ends, with extensions and backing name, if all of it is in the first bytes,
// which hold the fixed fields. Nothing otherwise: then its cluster is needed to say what is wrong,
// too.
std::optional<uint64_t> end_of_header(std::span<const uint8_t> bytes) {
  format::Header fields;
  if (bytes.size() < sizeof fields) return std::nullopt;
  std::memcpy(&fields, bytes.data(), sizeof fields);
  uint64_t at = fields.version >= 3 ? uint64_t{fields.header_length} : format::kHeaderLengthV2;
  format::ExtensionHeader extension{};
  do {
    if (at > bytes.size() || bytes.size() - at < sizeof extension) return std::nullopt;
    std::memcpy(&extension, bytes.data() + at, sizeof extension);
    at += sizeof extension + align_up(uint64_t{extension.length}, 8);
  } while (extension.type != format::kExtEnd);
  if (fields.backing_name_offset != 0) {
    const auto name = make_range(fields.backing_name_offset, fields.backing_name_length);
    if (!name) return std::nullopt;
    at = std::max(at, name->end());
  }
  return at <= bytes.size() ? std::optional(at) : std::nullopt;
}

}  // namespace

Async<HeaderBytes> read_header(block::Node& file) {
  HeaderBytes out;
  out.cluster0.resize(static_cast<size_t>(std::min(file.size(), kFirstBytes)));
  FlatIo first{std::span<uint8_t>(out.cluster0)};
  CO_TRY_VOID(co_await file.read(0, first.slice()));
  CO_TRY(uint64_t area, header_area_size(out.cluster0));
  const uint64_t had = out.cluster0.size();
  if (area <= had || end_of_header(out.cluster0)) {
    out.cluster0.resize(static_cast<size_t>(std::min(had, area)));
  } else {
    out.cluster0.resize(static_cast<size_t>(std::min(file.size(), area)));
    FlatIo all{std::span<uint8_t>(out.cluster0)};
    CO_TRY_VOID(co_await file.read(0, all.slice()));
  }
  CO_TRY(out.header, parse_header(out.cluster0));
  co_return out;
}

}  // namespace calf::qcow2
