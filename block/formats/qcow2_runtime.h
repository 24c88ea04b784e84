// The options of a qcow2 node at run time (contract section 4.5), checked.
//
// Accepted without effect: cache sizes (the engine bounds its caches itself), lazy-refcounts (more
// is written than asked for, never less), overlap-check (every write of the engine is checked, so
// each value is met). pass-discard-*: freed clusters reach the file as `discard` says.
#pragma once

#include "block/node_description.h"

namespace calf::block {

// Takes them out of `description`.
Result<void> take_qcow2_runtime_options(NodeDescription* description);

}  // namespace calf::block
