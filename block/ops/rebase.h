// rebase: puts an overlay on another base without changing what it shows.
//
//     old base   AABBCC          the overlay gets what it does not hold itself and what the new
//     base overlay    ..X...   ──>    has otherwise: new base   AADD            ..XXCC   (whole
//     clusters, never one that is equal)
#pragma once

#include <optional>
#include <string>

#include "block/base/result.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "block/ops/job.h"
#include "block/qcow2/image.h"

namespace calf::ops {

// Copies from the chain below `top` into `top` what differs from `new_base` (null: none, which
// reads as zeroes), durably. `top` shows the same all the time: what was stopped can be run again.
Async<> rebase(Executor& executor, block::Node& top, block::Node* new_base,
               const JobControl& control);

// Can the image's header record another base?
bool can_record_backing(block::Node& top);
// The reference itself, see qcow2::Image::record_backing().
Async<> record_backing(block::Node& top, qcow2::BackingRecord record);
// What is recorded now.
qcow2::BackingRecord recorded_backing(block::Node& top);

}  // namespace calf::ops
