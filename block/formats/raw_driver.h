// The raw format for the graph: see raw_node.h.
#pragma once

#include <memory>

#include "block/format_driver.h"

namespace calf::block {

std::unique_ptr<FormatDriver> make_raw_driver();

}  // namespace calf::block
