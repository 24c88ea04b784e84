// commit: moves what an overlay holds into a layer below it, and empties the overlay.
//
//     top     ..DD..ZZ..            top     ..........
//     mid     .M....MM..    ──>     mid     .M....MM..      (as it was: no longer of use alone)
//     base    BBBBBB....            base    BMDDBBZZ..      what the top shows
#pragma once

#include <cstdint>

#include "block/base/result.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "block/ops/job.h"

namespace calf::ops {

struct CommitOptions {
  // Bytes a second, 0 for no limit.
  uint64_t rate = 0;
  unsigned parallel = 8;
};

// The layer below `top` that is open for writing (OpenSpec::write_base), and how many layers are
// above it. Depth 0: there is none.
struct CommitTarget {
  block::Node* base = nullptr;
  unsigned depth = 0;
};
CommitTarget find_commit_target(block::Node& top);

// Afterwards the target shows what `top` shows, durably; it grows if it is shorter. Until then
// `top` is unchanged, so that a commit that was stopped loses nothing and can be run again.
Async<> commit(Executor& executor, block::Node& top, CommitTarget target, CommitOptions options,
               const JobControl& control);

// `top` holds nothing of its disk any more: its backing node answers for all of it.
Async<> empty_overlay(block::Node& top);

}  // namespace calf::ops
