#include "block/ops/map.h"

#include <utility>

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
  // The one that is put together, and the one that may continue it: they change places.
  ChainExtent extents[2];
  ChainExtent* current = &extents[0];
  ChainExtent* next = &extents[1];
  unsigned steps = 0;
  while (!range.empty()) {
    // Tables that are cached are read without a wait: let others run now and then.
    if (++steps % kStepsBetweenYields == 0) co_await executor.yield();
    if (!map.known(range, *next)) {
      CO_TRY(*next, co_await map.map(range));
    }
    range = {next->range.end(), range.length - next->range.length};
    if (!current->range.empty()) {
      if (continues(*current, *next)) {
        current->range.length += next->range.length;
        continue;
      }
      CO_TRY_VOID(emit(*current));
    }
    std::swap(current, next);
  }
  if (!current->range.empty()) CO_TRY_VOID(emit(*current));
  co_return Result<void>();
}

}  // namespace calf::ops
