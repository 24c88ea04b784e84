// The luks format for the graph: see luks/luks_node.h.
#pragma once

#include <memory>

#include "block/format_driver.h"

namespace calf::block {

std::unique_ptr<FormatDriver> make_luks_driver();

}  // namespace calf::block
