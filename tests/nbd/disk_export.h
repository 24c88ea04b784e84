// A node as an export whose holes are known.
#pragma once

#include "block/nbd/export.h"

namespace calf::nbd {

inline Export export_of(block::Node& node, bool writable) {
  Export exported;
  exported.node = &node;
  exported.name = "disk";
  exported.writable = writable;
  exported.state = [&node](ByteRange range) {
    static constexpr auto ask = [](block::Node& asked, ByteRange part) -> Async<BlockState> {
      CO_TRY(block::Extent extent, co_await asked.map(part));
      co_return BlockState{extent.range.length, !extent.data, extent.zero};
    };
    return ask(node, range);
  };
  return exported;
}

}  // namespace calf::nbd
