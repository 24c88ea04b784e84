// map: the extents of a chain, neighbours merged, as `calf-img map` lists them.
#pragma once

#include <functional>

#include "block/io/executor.h"
#include "block/ops/chain_map.h"

namespace calf::ops {

// Calls `emit` for each extent of `range` (cut to the disk), merged where status, depth, file and
// host offsets go on. An error of `emit` ends the walk. The references outlive the await.
Async<> map_extents(Executor& executor, block::Node& top, ByteRange range,
                    const std::function<Result<void>(const ChainExtent&)>& emit);

}  // namespace calf::ops
