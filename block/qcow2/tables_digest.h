// A checksum of what maps a qcow2 file's clusters: it changes whenever a cluster is allocated,
// freed or moved.
#pragma once

#include <cstdint>

#include "block/io/executor.h"
#include "block/node.h"

namespace calf::qcow2 {

// CRC-32 of the active L1 table and of the L2 tables it names. At most 16 MiB of L2 tables are
// read: of more, every n-th. `file` is the bare file; an error if it is no sound qcow2 file.
Async<uint32_t> tables_digest(Executor& executor, block::Node& file);

}  // namespace calf::qcow2
