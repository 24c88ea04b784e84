#include "block/ops/map.h"

#include "block/ops/job.h"

namespace calf::ops {
namespace {

bool continues(const ChainExtent& a, const ChainExtent& b) {
  if (!a.same_status(b) || a.depth != b.depth || a.encoded != b.encoded) return false;
  if (a.host_offset.has_value() != b.host_offset.has_value()) return false;
  if (!a.host_offset) return true;
  return *a.host_offset + a.range.length == *b.host_offset && *a.host_file == *b.host_file;
}

}  // namespace

Async<> map_extents(Executor& executor, block::Node& top, ByteRange range,
                    const std::function<Result<void>(const ChainExtent&)>& emit) {
  ChainMap map(top);
  range = range.intersect({0, top.size()});
  ChainExtent current;
  unsigned steps = 0;
  while (!range.empty()) {
    // Tables that are cached are read without a wait: let others run now and then.
    if (++steps % kStepsBetweenYields == 0) co_await executor.yield();
    ChainExtent extent;
    if (std::optional<ChainExtent> known = map.known(range)) {
      extent = *known;
    } else {
      CO_TRY(extent, co_await map.map(range));
    }
    range = {extent.range.end(), range.length - extent.range.length};
    if (current.range.empty()) {
      current = extent;
    } else if (continues(current, extent)) {
      current.range.length += extent.range.length;
    } else {
      CO_TRY_VOID(emit(current));
      current = extent;
    }
  }
  if (!current.range.empty()) CO_TRY_VOID(emit(current));
  co_return Result<void>();
}

}  // namespace calf::ops
