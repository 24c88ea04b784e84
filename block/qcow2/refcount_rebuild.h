// Rebuilding the refcount structure from nothing but the references that a census counted.
//
//     header ──> refcount table ─> blocks        the old structure, not believed and not touched
//        ┊
//        └─ ─ ─> new table ──────> new blocks    in clusters that nothing refers to
//
// The new structure is complete and durable before the header points to it: a crash before leaves
// the old one, a crash after the new one. The old structure's clusters then count as used once too
// often, which a further comparison puts right.
#pragma once

#include "block/qcow2/census.h"

namespace calf::qcow2 {

// `references` learn of the new structure's clusters. Nothing is cached of the old structure
// afterwards. The image has no request in flight.
Async<> rebuild_refcount_structure(Image::State& state, References& references);
// The same with counts of another width: 1 << `refcount_order` bits, which all of them fit in. The
// image must be opened anew afterwards.
Async<> rebuild_refcount_structure(Image::State& state, References& references,
                                   unsigned refcount_order);

}  // namespace calf::qcow2
