// The qcow2 format for the graph: see qcow2/image.h.
#pragma once

#include <memory>

#include "block/format_driver.h"

namespace calf::block {

std::unique_ptr<FormatDriver> make_qcow2_driver();

}  // namespace calf::block
