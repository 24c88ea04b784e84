// The filter blkdebug for the graph: see blkdebug_node.h.
#pragma once

#include <memory>

#include "block/protocol_driver.h"

namespace calf::block {

std::unique_ptr<FilterDriver> make_blkdebug_driver();

}  // namespace calf::block
