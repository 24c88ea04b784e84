#include "block/ops/concat_node.h"

#include <algorithm>
#include <cerrno>

namespace calf::ops {

ConcatNode::ConcatNode(const std::vector<block::Node*>& sources) {
  for (block::Node* source : sources) {
    parts_.push_back({source, size_, ChainMap(*source)});
    size_ += source->size();
    limits_.memory_alignment =
        std::max(limits_.memory_alignment, source->limits().memory_alignment);
  }
}

Async<> ConcatNode::refuse() {
  co_return Error(ErrorKind::kReadOnly, EPERM, "Sources are only read");
}

ConcatNode::Part& ConcatNode::part_at(uint64_t offset) {
  auto part = std::upper_bound(parts_.begin(), parts_.end(), offset,
                               [](uint64_t at, const Part& p) { return at < p.end(); });
  return *part;
}

Async<> ConcatNode::read(uint64_t offset, IoSlice to) {
  size_t done = 0;
  while (done < to.size()) {
    uint64_t at = offset + done;
    Part& part = part_at(at);
    size_t length = static_cast<size_t>(std::min<uint64_t>(to.size() - done, part.end() - at));
    CO_TRY_VOID(co_await part.node->read(at - part.begin, to.slice(done, length)));
    done += length;
  }
  co_return Result<void>();
}

Async<block::Extent> ConcatNode::map(ByteRange range) {
  Part& part = part_at(range.offset);
  ByteRange inside{range.offset - part.begin, std::min(range.length, part.end() - range.offset)};
  CO_TRY(ChainExtent found, co_await part.map.map(inside));
  block::Extent extent;
  extent.range = {found.range.offset + part.begin, found.range.length};
  extent.allocated = found.present;
  extent.zero = found.zero;
  extent.data = found.data;
  extent.encoded = found.encoded;
  co_return extent;
}

}  // namespace calf::ops
