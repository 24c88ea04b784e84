// The header of a qcow2 file that nobody has opened as an image: reads cluster 0, nothing else.
#pragma once

#include <vector>

#include "block/io/executor.h"
#include "block/node.h"
#include "block/qcow2/header.h"

namespace calf::qcow2 {

struct HeaderBytes {
  Header header;
  // Cluster 0 or all of a shorter file; the first bytes only if the header is in them.
  std::vector<uint8_t> cluster0;
};

// `file` is the bare file.
Async<HeaderBytes> read_header(block::Node& file);

}  // namespace calf::qcow2
