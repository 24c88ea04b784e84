// The COPIED flags of the active tables: set exactly where the refcount is one. The last part of
// check, after the refcounts.
#pragma once

#include "block/qcow2/census.h"

namespace calf::qcow2 {

// Reports wrong flags, and writes them right if `repair`. `references` know the refcounts. Not
// synced.
Async<> check_copied_flags(Image::State& state, const References& references, bool repair,
                           CheckResult& result, const FindingSink& sink, Deadline deadline = {});

}  // namespace calf::qcow2
