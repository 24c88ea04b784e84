// copy: the engine under convert and dd. Moves what a source shows into a target, with several
// ranges in flight, leaving out what need not be moved.
//
//     walk:   status of the source  ─┬─ zero ────────────> nothing, or write_zeroes
//             (ChainMap), units of   ├─ in the backing ──> nothing (the target has it below itself)
//             the target             └─ data ──> worker: read ─> look for zeroes ─> write/compress
//
// Units: the smallest run of zeroes that becomes a hole, and no less than a cluster of the target
// (so that none is copied on write). Workers read in any order; unless `out_of_order` they write
// one after the other, so that the target is laid out like the disk. Compressed clusters come as
// they get ready.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "block/base/result.h"
#include "block/io/executor.h"
#include "block/io/io_slice.h"
#include "block/node.h"
#include "block/ops/job.h"

namespace calf::ops {

struct CopyOptions {
  // Ranges in flight.
  unsigned parallel = 8;
  bool out_of_order = false;
  // Runs of zeroes of at least this many bytes become holes; 0 writes every byte.
  uint64_t sparse = 4096;
  // The target reads as zeroes before the copy.
  bool target_is_zero = false;
  // Only what this many layers of the source hold, from the top on, is copied; 0: what all of them
  // show. For targets that are the layer below those.
  unsigned source_layers = 0;
  // What the top of the source does not hold is left to the target's backing file.
  bool target_has_backing = false;
  // Where that one ends: bytes behind it read as zeroes without being written.
  uint64_t backing_size = 0;
  // Progress counts what has to be moved, found by a walk before the copy; else all of the disk.
  bool count_data = false;
  // Unreadable sectors become zeroes, each with a warning, in the order of the disk: one part is
  // read at a time.
  bool salvage = false;
  // Bytes that stand in files of this host on both sides are copied by the kernel, all of them
  // where the source says "data" (host_copy.h). Where that cannot be, as without.
  bool offload = false;
  // Bytes a second, 0 for no limit.
  uint64_t rate = 0;
  // Set for compressed targets: stores one cluster.
  std::function<Async<>(uint64_t offset, IoSlice from)> write_compressed;
};

// Copies [0, length) of `source` (`length` at most its size) to the same place in `target`. The
// references outlive the await. Errors: "error while reading at byte N: …" and "… writing …".
Async<> copy(Executor& executor, block::Node& source, uint64_t length, block::Node& target,
             const CopyOptions& options, const JobControl& control);

}  // namespace calf::ops
