// Persistent bitmaps of an image: what `bitmap` and `convert --bitmaps` do with them. Contract
// sections 3.6 and 3.14. Changes reach the file when the image is closed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "block/base/result.h"
#include "block/node.h"

namespace calf::ops {

enum class BitmapAction : uint8_t { kAdd, kRemove, kClear, kEnable, kDisable, kMerge };

struct BitmapRequest {
  BitmapAction action = BitmapAction::kAdd;
  std::string name;
  // Of a new bitmap: bytes, a power of two from 512 on; 0 is the default, the cluster size within
  // 4 KiB and 64 KiB.
  uint64_t granularity = 0;
  // kMerge: what is merged in, and the image that has it if not the same.
  std::string source;
  block::Node* source_node = nullptr;
};

// Error texts are qemu-img's, without "Operation … failed".
Async<> change_bitmap(block::Node& node, BitmapRequest request);

bool supports_bitmaps(const block::Node& node);

// What stands in the way of copying the bitmaps of `source`; null `skipped` means that inconsistent
// ones do, else they are named to it.
Async<> check_bitmaps(block::Node& source, std::function<void(std::string_view name)> skipped);
// Copies all that are consistent to an image of the same size that has none of their names.
Async<> copy_bitmaps(block::Node& source, block::Node& target);

}  // namespace calf::ops
