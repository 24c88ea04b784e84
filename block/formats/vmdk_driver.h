// The vmdk format for the graph: see vmdk/image.h.
#pragma once

#include <memory>

#include "block/format_driver.h"

namespace calf::block {

std::unique_ptr<FormatDriver> make_vmdk_driver();

}  // namespace calf::block
