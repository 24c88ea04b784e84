// The tables of a new file whose disk is mapped from the start. Each entry follows from the layout,
// so the tables are composed piece by piece and written from front to back: no look-ups, no cache,
// one small buffer for a disk of any size.
#pragma once

#include "block/node.h"
#include "block/qcow2/new_layout.h"

namespace calf::qcow2 {

// Writes everything between the header's cluster and guest data into `file`, which is zero from
// there on; the place of the LUKS header is left as zeroes. `options` and `layout`, one with a
// mapped disk, outlive the await.
Async<> write_new_tables(block::Node& file, const CreateOptions& options, const NewLayout& layout);

}  // namespace calf::qcow2
