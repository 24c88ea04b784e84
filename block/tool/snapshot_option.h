// The snapshot that `convert -l` and `measure -l` read: an id or a name, or
// "snapshot.id=X,snapshot.name=Y".
#pragma once

#include <string>

#include "block/ops/snapshot.h"

namespace calf::img {

Result<ops::SnapshotChoice> parse_snapshot_option(const std::string& text);

}  // namespace calf::img
