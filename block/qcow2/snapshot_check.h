// The snapshot table in a check: read before the refcounts are counted, written anew afterwards if
// it was damaged.
#pragma once

#include "block/qcow2/check.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {

// Fills Image::State::snapshots. Findings count as corruptions in `result`; with `repair` what
// cannot be read is dropped, else it is an error, as nothing that hangs on it can be counted.
Async<> load_snapshots_for_check(Image::State& state, bool repair, CheckResult& result,
                                 const FindingSink& sink);

// Puts right what load_snapshots_for_check() found. The refcounts are right.
Async<> repair_snapshot_table(Image::State& state, CheckResult& result, const FindingSink& sink);

}  // namespace calf::qcow2
