// The formats that calf's programs know. The one place where the graph's table meets the engines.
#pragma once

#include "block/format_driver.h"

namespace calf::block {

FormatTable known_formats();

}  // namespace calf::block
