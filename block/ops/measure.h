// measure: how large would the file of a new image be? Contract section 5.7.
#pragma once

#include <cstdint>
#include <vector>

#include "block/base/result.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "block/qcow2/create.h"
#include "block/qcow2/image_info.h"

namespace calf::ops {

struct Measurement {
  uint64_t required = 0;
  uint64_t fully_allocated = 0;
};

// For a qcow2 image made with `options` (valid ones) of which `data_bytes`, in whole clusters, hold
// data. An error if no such image can be.
Result<Measurement> measure_qcow2(const qcow2::CreateOptions& options, uint64_t data_bytes);

// Bytes of `node` in clusters of that size that hold something other than zeroes.
Async<uint64_t> count_data(Executor& executor, block::Node& node, uint64_t cluster_size);

// What copies of these bitmaps would take, for a disk of `size` bytes.
uint64_t measure_bitmaps(const std::vector<qcow2::BitmapInfo>& bitmaps, uint64_t size,
                         uint64_t cluster_size);

}  // namespace calf::ops
