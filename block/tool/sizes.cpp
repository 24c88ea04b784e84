#include "block/tool/sizes.h"

#include <fmt/format.h>

#include <cstdio>

namespace calf::img {

std::optional<uint64_t> size_argument(const Context& context, std::string_view what,
                                      std::string_view text, uint64_t min, uint64_t max) {
  Result<uint64_t> size = parse_size(text);
  if (size.ok() && is_suffixed_hex(text)) {
    context.warning(
        fmt::format("Using a multiplier suffix on hex numbers is deprecated: {}", text));
  }
  if (size.ok() && *size >= min && *size <= max) return *size;
  if (size.ok() || size.error().kind() == ErrorKind::kNoSpace) {
    context.errorf("Invalid {} specified. Must be between {} and {}.", what, min, max);
  } else {
    context.errorf("Invalid {} specified. You may use k, M, G, T, P or E suffixes for", what);
    context.error("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
  }
  return std::nullopt;
}

std::string human_size(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  unsigned unit = 0;
  auto value = static_cast<double>(bytes);
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  char text[64];
  std::snprintf(text, sizeof text, "%0.3g %s", value, kUnits[unit]);
  return text;
}

}  // namespace calf::img
