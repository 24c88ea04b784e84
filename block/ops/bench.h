// bench: so many requests of one size, so many at a time.
#pragma once

#include <cstdint>

#include "block/base/result.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "block/ops/job.h"

namespace calf::ops {

struct BenchOptions {
  uint64_t count = 75000;
  unsigned depth = 64;
  uint64_t size = 4096;
  uint64_t offset = 0;
  // From one request to the next; wraps at the end of the disk.
  uint64_t step = 4096;
  bool write = false;
  uint8_t pattern = 0;
  // Writes only: a flush after so many, 0 for none. With `drain` requests stop for it.
  uint64_t flush_interval = 0;
  bool drain = true;
};

Async<> bench(Executor& executor, block::Node& node, BenchOptions options,
              const JobControl& control);

}  // namespace calf::ops
