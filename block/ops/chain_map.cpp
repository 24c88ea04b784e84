#include "block/ops/chain_map.h"

#include <sys/stat.h>

#include <algorithm>

#include "block/file_node.h"
#include "block/qcow2/image.h"

namespace calf::ops {
namespace {

// Does the file have far fewer blocks than bytes? Then its clusters were mapped without being
// written. The margins are qemu-img's.
bool is_preallocated(const block::FileNode& file, uint32_t cluster_size) {
  struct stat st {};
  if (cluster_size == 0 || ::fstat(file.fd(), &st) != 0) return false;
  uint64_t clusters = div_round_up(file.size(), cluster_size);
  uint64_t backed = static_cast<uint64_t>(st.st_blocks) * 512 / cluster_size;
  return clusters >= std::max(backed * 10 / 9, backed + 2);
}

block::Node* file_with_holes(block::Node& node) {
  auto* image = dynamic_cast<qcow2::Image*>(&node);
  if (image == nullptr) return nullptr;
  // As qemu-img: nothing is asked about a data file's holes.
  if (&image->data_file() != &image->file()) return nullptr;
  auto* file = dynamic_cast<block::FileNode*>(&image->file());
  if (file == nullptr || file->is_block_device()) return nullptr;
  return is_preallocated(*file, node.limits().cluster_size) ? file : nullptr;
}

}  // namespace

ChainMap::ChainMap(block::Node& top) {
  for (block::Node* node = &top; node != nullptr; node = node->backing()) {
    layers_.push_back({node, file_with_holes(*node)});
  }
}

Async<ChainExtent> ChainMap::map_layer(const Layer& layer, ByteRange range) {
  CO_TRY(block::Extent found, co_await layer.node->map(range));
  ChainExtent extent;
  extent.range = found.range.intersect(range);
  extent.present = found.allocated;
  extent.zero = found.allocated && found.zero;
  extent.data = found.allocated && found.data;
  extent.encoded = found.encoded;
  extent.host_offset = found.host_offset;
  extent.host_file = found.host_file;
  if (layer.file != nullptr && extent.data && !extent.zero && extent.host_offset) {
    uint64_t file_size = layer.file->size();
    if (*extent.host_offset >= file_size) {
      extent.zero = true;
    } else {
      ByteRange host{*extent.host_offset, extent.range.length};
      CO_TRY(block::Extent below, co_await layer.file->map(host.intersect({0, file_size})));
      extent.range.length = std::min(extent.range.length, below.range.length);
      extent.zero = below.zero;
    }
  }
  co_return extent;
}

Async<ChainExtent> ChainMap::map_top(ByteRange range) {
  return map_layer(layers_.front(), range);
}

Async<ChainExtent> ChainMap::map_above(ByteRange range, size_t count) {
  ChainExtent answer;
  for (size_t i = 0; i < count; ++i) {
    CO_TRY(answer, co_await map_layer(layers_[i], range));
    answer.depth = static_cast<unsigned>(i);
    if (answer.present) break;
    uint64_t size_below = i + 1 == layers_.size() ? 0 : layers_[i + 1].node->size();
    if (answer.range.offset >= size_below) {
      answer.present = true;
      answer.zero = true;
      break;
    }
    range = answer.range = answer.range.intersect({0, size_below});
  }
  co_return answer;
}

Async<ChainExtent> ChainMap::map(ByteRange range) {
  ChainExtent answer;
  for (size_t i = 0; i < layers_.size(); ++i) {
    CO_TRY(ChainExtent extent, co_await map_layer(layers_[i], range));
    extent.depth = static_cast<unsigned>(i);
    answer = extent;
    if (answer.present) break;
    bool last = i + 1 == layers_.size();
    uint64_t size_below = last ? 0 : layers_[i + 1].node->size();
    if (answer.range.offset >= size_below) {
      answer.zero = true;
      break;
    }
    // What lies behind the end of the layer below is another stretch.
    range = answer.range.intersect({0, size_below});
  }
  co_return answer;
}

}  // namespace calf::ops
