// The protocols null-co and null-aio for the graph: see null_node.h.
#pragma once

#include <memory>

#include "block/protocol_driver.h"

namespace calf::block {

// `name` is a literal.
std::unique_ptr<ProtocolDriver> make_null_driver(const char* name);

}  // namespace calf::block
