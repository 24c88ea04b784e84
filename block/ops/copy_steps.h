// CopySteps: what a copy does with each stretch of the disk, found from the extents of the source.
#pragma once

#include <cstdint>
#include <optional>

#include "block/ops/chain_map.h"
#include "block/ops/copy.h"

namespace calf::ops {

// What one worker moves at once.
constexpr uint64_t kMaxPart = uint64_t{512} << 10;
// What one write_zeroes covers, so that a stop is heard in between.
constexpr uint64_t kMaxZeroes = uint64_t{1} << 30;
constexpr uint64_t kSector = 512;

enum class CopyAction : uint8_t { kSkip, kZero, kData };

// A stretch of the source, in whole units, and what to do with it.
struct CopyStep {
  ByteRange range;
  CopyAction action = CopyAction::kSkip;
};

class CopySteps {
 public:
  // [0, length) of `source`; steps begin and end on multiples of `unit`. The references outlive it.
  CopySteps(block::Node& source, uint64_t length, uint64_t unit, const CopyOptions& options,
            const JobControl& control)
      : length_(length), unit_(unit), options_(options), control_(control), map_(source) {}

  // The longest stretch at `position` with one action, within reason. Positions follow one another,
  // from 0 to the end; then they may begin anew.
  Async<CopyStep> next(uint64_t position);

 private:
  Async<CopyStep> next_units(uint64_t position);
  Async<ChainExtent> status(ByteRange range);
  CopyAction action_for(const ChainExtent& extent) const;

  uint64_t length_;
  uint64_t unit_;
  const CopyOptions& options_;
  const JobControl& control_;
  ChainMap map_;
  std::optional<CopyStep> pending_;
};

}  // namespace calf::ops
