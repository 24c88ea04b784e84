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
    auto* image = dynamic_cast<qcow2::Image*>(node);
    block::Node* bytes = image != nullptr ? &image->data_file() : node;
    layers_.push_back(
        {node, file_with_holes(*node), dynamic_cast<block::HostCopy*>(bytes), image != nullptr});
  }
}

std::optional<block::HostBytes> ChainMap::host_bytes(const ChainExtent& answer) const {
  const Layer& layer = layers_[answer.depth];
  if (!answer.data || answer.encoded || !answer.host_offset || layer.host == nullptr) {
    return std::nullopt;
  }
  return layer.host->host_bytes(layer.maps ? *answer.host_offset : answer.range.offset);
}

std::optional<block::Extent> ChainMap::ask(block::Node& node, ByteRange range, Look& look) {
  for (const Told& told : look.told) {
    if (told.node != &node || told.extent.range.offset != range.offset) continue;
    block::Extent extent = told.extent;
    extent.range = extent.range.intersect(range);
    return extent;
  }
  std::optional<block::Extent> known = node.known(range);
  if (!known) {
    look.node = &node;
    look.range = range;
  }
  return known;
}

// Writes field by field, as its like do: this is done for each of a million extents, and to copy
// what has just been put together of small fields makes the processor wait for them.
bool ChainMap::look_at(const Layer& layer, ByteRange range, Look& look, ChainExtent& answer) {
  const std::optional<block::Extent> found = ask(*layer.node, range, look);
  if (!found) return false;
  answer.range = found->range.intersect(range);
  answer.present = found->allocated;
  answer.zero = found->allocated && found->zero;
  answer.data = found->allocated && found->data;
  answer.encoded = found->encoded;
  answer.host_file = found->host_file;
  if (!found->host_offset) {
    answer.host_offset.reset();
    return true;
  }
  answer.host_offset = *found->host_offset;
  if (layer.file == nullptr || !answer.data || answer.zero) return true;
  const uint64_t file_size = layer.file->size();
  if (*found->host_offset >= file_size) {
    answer.zero = true;
    return true;
  }
  const ByteRange host{*found->host_offset, answer.range.length};
  const std::optional<block::Extent> below = ask(*layer.file, host.intersect({0, file_size}), look);
  if (!below) return false;
  answer.range.length = std::min(answer.range.length, below->range.length);
  answer.zero = below->zero;
  return true;
}

bool ChainMap::look_through(ByteRange range, size_t count, Below below, Look& look,
                            ChainExtent& answer) const {
  for (size_t i = 0; i < count; ++i) {
    if (!look_at(layers_[i], range, look, answer)) return false;
    answer.depth = static_cast<unsigned>(i);
    if (answer.present || below == Below::kIsNotAsked) break;
    uint64_t size_below = i + 1 == layers_.size() ? 0 : layers_[i + 1].node->size();
    if (answer.range.offset >= size_below) {
      answer.zero = true;
      answer.present = below == Below::kIsPresentZero;
      break;
    }
    // What lies behind the end of the layer below is another stretch.
    range = answer.range = answer.range.intersect({0, size_below});
  }
  return true;
}

Async<ChainExtent> ChainMap::answer(ByteRange range, size_t count, Below below) {
  std::vector<Told> told;
  for (;;) {
    Look look{told};
    ChainExtent found;
    if (look_through(range, count, below, look, found)) co_return found;
    CO_TRY(block::Extent extent, co_await look.node->map(look.range));
    told.push_back({look.node, extent});
  }
}

Async<ChainExtent> ChainMap::map(ByteRange range) {
  return answer(range, layers_.size(), Below::kIsZero);
}

Async<ChainExtent> ChainMap::map_top(ByteRange range) {
  return answer(range, 1, Below::kIsNotAsked);
}

bool ChainMap::known(ByteRange range, ChainExtent& answer) const {
  Look look;
  return look_through(range, layers_.size(), Below::kIsZero, look, answer);
}

Async<ChainExtent> ChainMap::map_above(ByteRange range, size_t count) {
  return answer(range, count, Below::kIsPresentZero);
}

}  // namespace calf::ops
