// What a server shows: one disk under one name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "block/node.h"

namespace calf::nbd {

// What a client may know about a stretch of the disk.
struct BlockState {
  uint64_t length = 0;
  bool hole = false;
  bool zero = false;
};

struct Export {
  // Outlives the server.
  block::Node* node = nullptr;
  std::string name;
  bool writable = false;
  // A client may come several times: one that is told so and turned away would wait for ever.
  bool multi_conn = false;
  // The longest prefix of a range (not empty, inside the disk) with one state.
  std::function<Async<BlockState>(ByteRange)> state;

  uint16_t flags() const;
};

}  // namespace calf::nbd
