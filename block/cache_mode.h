// Cache modes, as QEMU names them: three switches with five combinations.
//
//     name           O_DIRECT   flushes reach the disk   a write is durable when it ends
//     writeback         no              yes                        no
//     none (off)        yes             yes                        no
//     writethrough      no              yes                        yes
//     directsync        yes             yes                        yes
//     unsafe            no              no                         no
//
// A base below an overlay that is written goes through the host's page cache in any mode, unless
// its own options say otherwise: it is in memory once for all overlays.
//
// FileNode obeys the first two; the third is a filter above the format (write_through.h), since a
// write is durable only when the metadata that leads to it is.
#pragma once

#include <optional>
#include <string_view>

namespace calf::block {

struct CacheMode {
  bool direct = false;
  bool no_flush = false;
  bool write_through = false;

  friend constexpr bool operator==(CacheMode, CacheMode) = default;
};

// Nothing for an unknown name.
constexpr std::optional<CacheMode> parse_cache_mode(std::string_view name) {
  if (name == "writeback") return CacheMode{};
  if (name == "none" || name == "off") return CacheMode{.direct = true};
  if (name == "writethrough") return CacheMode{.write_through = true};
  if (name == "directsync") return CacheMode{.direct = true, .write_through = true};
  if (name == "unsafe") return CacheMode{.no_flush = true};
  return std::nullopt;
}

}  // namespace calf::block
