#include "block/ops/copy_steps.h"

#include <algorithm>
#include <utility>

namespace calf::ops {

CopyAction CopySteps::action_for(const ChainExtent& extent) const {
  const bool part = options_.target_has_backing || options_.source_layers != 0;
  if (part && !extent.present) return CopyAction::kSkip;
  if (extent.zero) {
    // All bytes wanted: the zeroes are written as data.
    if (options_.sparse == 0) return CopyAction::kData;
    uint64_t begin = extent.range.offset;
    if (options_.target_has_backing && begin >= options_.backing_size) return CopyAction::kSkip;
    return options_.target_is_zero ? CopyAction::kSkip : CopyAction::kZero;
  }
  return CopyAction::kData;
}

// To salvage what there is, a stretch whose status cannot be read is asked for in ever smaller
// pieces, until it is the sector that fails: that one is to be read.
Async<ChainExtent> CopySteps::status(ByteRange range) {
  while (true) {
    Result<ChainExtent> found(ChainExtent{});
    if (options_.source_layers != 0) {
      found = co_await map_.map_above(range, options_.source_layers);
    } else if (options_.target_has_backing) {
      found = co_await map_.map_top(range);
    } else {
      found = co_await map_.map(range);
    }
    if (found.ok()) co_return found;
    if (!options_.salvage) {
      co_return std::move(found.error())
          .with_context(fmt::format("error while reading block status at byte {}", range.offset));
    }
    if (range.length > kSector) {
      range.length = align_up(div_round_up(range.length, 4), kSector);
      continue;
    }
    if (control_.warning) {
      control_.warning(fmt::format("error while reading block status at offset {}: {}",
                                   range.offset, found.error().message()));
    }
    ChainExtent unknown;
    unknown.range = range;
    unknown.present = true;
    unknown.data = true;
    co_return unknown;
  }
}

// What to do with the unit at `position`, and as many more as the last extent looked at covers. A
// unit with two answers is data.
Async<CopyStep> CopySteps::next_units(uint64_t position) {
  uint64_t unit_end = std::min(align_down(position, unit_) + unit_, length_);
  uint64_t at = position;
  CopyStep step{{position, 0}, CopyAction::kSkip};
  while (true) {
    ByteRange rest{at, std::min(length_ - at, kMaxZeroes)};
    CO_TRY(ChainExtent extent, co_await status(rest));
    CopyAction action = action_for(extent);
    bool same = at == position || action == step.action;
    step.action = same ? action : CopyAction::kData;
    at = std::min(extent.range.end(), length_);
    if (at < unit_end) continue;
    uint64_t end = at == length_ ? at : align_down(at, unit_);
    if (!same) end = unit_end;
    step.range.length = end - position;
    co_return step;
  }
}

Async<CopyStep> CopySteps::next(uint64_t position) {
  std::optional<CopyStep> step = std::exchange(pending_, std::nullopt);
  while (!step || step->range.end() < length_) {
    // What a failing disk tells is told in its order: nothing is asked for ahead of the reads.
    if (step && options_.salvage) break;
    if (step && step->range.length >= (step->action == CopyAction::kData ? kMaxPart : kMaxZeroes))
      break;
    uint64_t at = step ? step->range.end() : position;
    CO_TRY(CopyStep next, co_await next_units(at));
    if (!step) {
      step = next;
    } else if (next.action == step->action) {
      step->range.length += next.range.length;
    } else {
      pending_ = next;
      break;
    }
  }
  co_return *step;
}

}  // namespace calf::ops
