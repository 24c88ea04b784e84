// ChainMap: what a reader of the top of a chain gets, stretch by stretch, and from which layer.
//
//     depth 0   top      ....DDDD....ZZZZ....|          . nothing here: ask below
//     depth 1   base     DDDDDDDD....        |          (shorter than the top)
//               answer   1111000000  11110000           depth of the layer that answers
//
// A stretch that no layer has reads as zeroes; it carries the depth of the last layer asked, which
// is the overlay's own where the backing file has ended.
//
// In a qcow2 file with preallocated metadata, mapped clusters that the host has no blocks for read
// as zeroes too: the file below is asked. (Not in others: a hole inside a written cluster is an
// accident of how it was written.)
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/base/byte_range.h"
#include "block/base/result.h"
#include "block/host_copy.h"
#include "block/node.h"

namespace calf::ops {

struct ChainExtent {
  ByteRange range;
  // The layer that answered, 0 is the top.
  unsigned depth = 0;
  // That layer holds the range (as data or as zeroes).
  bool present = false;
  bool zero = false;
  bool data = false;
  bool encoded = false;
  std::optional<uint64_t> host_offset;
  const std::string* host_file = nullptr;

  // The same answer for two stretches, wherever they are.
  bool same_status(const ChainExtent& other) const {
    return present == other.present && zero == other.zero && data == other.data;
  }
};

class ChainMap {
 public:
  // The chain outlives the map.
  explicit ChainMap(block::Node& top);

  // The longest known prefix of `range` with one status. `range` is not empty and inside the top.
  Async<ChainExtent> map(ByteRange range);
  // The same without waiting, if the layers can say it; a shorter prefix perhaps. False: `answer`
  // says nothing.
  bool known(ByteRange range, ChainExtent& answer) const;
  // The same, asking the top alone: not present where it has nothing.
  Async<ChainExtent> map_top(ByteRange range);
  // What the first `count` layers say that those below them do not: present, too, where zeroes come
  // from a layer that is shorter than the ones above it; not present where the rest would answer.
  Async<ChainExtent> map_above(ByteRange range, size_t count);

  // Where the bytes of an answer stand in a file of this host, one to one. Nothing: they have to be
  // read through the node.
  std::optional<block::HostBytes> host_bytes(const ChainExtent& answer) const;

 private:
  struct Layer {
    block::Node* node = nullptr;
    // Set if holes of the file below show in the answer.
    block::Node* file = nullptr;
    // What knows where bytes stand: the node, or the file that an image maps to; null if neither
    // does.
    block::HostCopy* host = nullptr;
    bool maps = false;
  };
  // What had to be waited for, for one answer.
  struct Told {
    block::Node* node = nullptr;
    block::Extent extent;
  };
  // One answer from what the layers know and what was told. Without one, `node` is to be asked
  // about `range`.
  struct Look {
    std::span<const Told> told;
    block::Node* node = nullptr;
    ByteRange range;
  };
  enum class Below : uint8_t { kIsZero, kIsPresentZero, kIsNotAsked };

  static std::optional<block::Extent> ask(block::Node& node, ByteRange range, Look& look);
  // False: there is no answer yet.
  static bool look_at(const Layer& layer, ByteRange range, Look& look, ChainExtent& answer);
  // The first `count` layers; `below`: what lies behind the end of the layer that would answer.
  bool look_through(ByteRange range, size_t count, Below below, Look& look,
                    ChainExtent& answer) const;
  Async<ChainExtent> answer(ByteRange range, size_t count, Below below);

  std::vector<Layer> layers_;
};

}  // namespace calf::ops
