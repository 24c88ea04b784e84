// Internal snapshots: finding them by what a user types, and the operations on an open image
// (Image::create_snapshot() and its sisters, snapshot.cpp).
//
// Spec: QEMU docs/interop/qcow2, "Snapshots".
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "block/qcow2/image.h"

namespace calf::qcow2 {

// What a snapshot is called: by its id, its name, or both.
struct SnapshotKey {
  std::optional<std::string> id;
  std::optional<std::string> name;
};

// The index of the first one that all of `key` fits.
std::optional<size_t> find_snapshot(const std::vector<SnapshotInfo>& list, const SnapshotKey& key);
// One word that is an id, or, if no id fits, a name.
std::optional<size_t> find_snapshot(const std::vector<SnapshotInfo>& list, const std::string& word);
// An id that is in no entry: one above the largest number among the ids.
std::string next_snapshot_id(const std::vector<SnapshotInfo>& list);

// The operations; see image.h for what they promise. The list is Image::State::snapshots.
Async<> create_snapshot(Image::State& state, NewSnapshot snapshot);
Async<> apply_snapshot(Image::State& state, size_t index);
Async<> delete_snapshot(Image::State& state, size_t index);
Async<> show_snapshot(Image::State& state, size_t index);
// A new, complete table for the list as it is, for repair. Everything is durable afterwards.
Async<> rewrite_snapshot_table(Image::State& state);

}  // namespace calf::qcow2
