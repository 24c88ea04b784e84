// compare: do two images show the same bytes?
#pragma once

#include <cstdint>
#include <optional>

#include "block/base/result.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "block/ops/job.h"

namespace calf::ops {

struct CompareOptions {
  // The same allocation and zero status everywhere, too.
  bool strict = false;
  // Parts under way at once.
  unsigned parallel = 4;
};

enum class Difference : uint8_t { kNone, kContent, kStatus };

struct CompareResult {
  Difference difference = Difference::kNone;
  // Of the first difference: for content, that of its sector of 512 bytes.
  uint64_t offset = 0;
};

// Which of the images could not be read, and where; cause is the error's text.
struct CompareFailure {
  unsigned image = 0;
  uint64_t offset = 0;
  // The status query failed, not a read.
  bool status = false;
};

// Images of unequal size are equal if the longer one's rest reads as zeroes. The nodes outlive the
// await. On error `failure` says where.
Async<CompareResult> compare(Executor& executor, block::Node& first, block::Node& second,
                             CompareOptions options, const JobControl& control,
                             CompareFailure* failure);

}  // namespace calf::ops
