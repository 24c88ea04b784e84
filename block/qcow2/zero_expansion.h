// Zero clusters, which version 2 does not have, become data, or unallocated where nothing is behind
// them: in every L2 table of the image, those of snapshots included.
//
// A table is changed where it stands. What is in one that n L1 tables share counts n times:
//
//     zeroes in new clusters, n references each │ sync │ table │ sync │ old clusters: - n
//
// Each entry reads the same before and after, so a crash leaves leaked clusters at worst.
#pragma once

#include "block/qcow2/amend.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {

// Of images without subclusters and data file. Everything is durable afterwards but the references
// of clusters that are free now. `progress` may be null.
Async<> expand_zero_clusters(Image::State& state, const AmendProgress& progress);

}  // namespace calf::qcow2
