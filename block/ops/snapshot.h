// Internal snapshots of an image, whatever its format: those that have none say so.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "block/base/result.h"
#include "block/node.h"
#include "block/qcow2/image_info.h"
#include "block/qcow2/snapshot.h"

namespace calf::ops {

// Empty for formats without snapshots.
std::vector<qcow2::SnapshotInfo> list_snapshots(block::Node& node);

// Keeps the disk as it is now, dated now.
Async<> create_snapshot(block::Node& node, std::string name);
// `word` is an id or a name.
Async<> apply_snapshot(block::Node& node, std::string word);
// Names only. kNotFound if there is none.
Async<> delete_snapshot(block::Node& node, std::string name);

// How a user names the snapshot to read from: a word, or id and name apart.
struct SnapshotChoice {
  std::optional<std::string> word;
  qcow2::SnapshotKey key;
};
// `node`, opened read-only, shows that snapshot from now on. Error texts as in contract section
// 6.2, convert.
Async<> show_snapshot(block::Node& node, SnapshotChoice choice);

}  // namespace calf::ops
