// The protocol nbd for the graph: see nbd/client_node.h.
#pragma once

#include <memory>

#include "block/protocol_driver.h"

namespace calf::block {

std::unique_ptr<ProtocolDriver> make_nbd_driver();

}  // namespace calf::block
