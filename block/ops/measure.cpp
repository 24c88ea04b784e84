#include "block/ops/measure.h"

#include <algorithm>

#include "block/base/byte_range.h"
#include "block/ops/chain_map.h"
#include "block/ops/job.h"

namespace calf::ops {
namespace {

constexpr uint64_t kMaxL1Bytes = uint64_t{32} << 20;

}  // namespace

Result<Measurement> measure_qcow2(const qcow2::CreateOptions& options, uint64_t data_bytes) {
  Error too_large(ErrorKind::kInvalid,
                  "The image size is too large (try using a larger cluster size)");
  const uint64_t cluster = options.cluster_size;
  const uint64_t entry = options.extended_l2 ? 16 : 8;
  const uint64_t clusters = div_round_up(options.size, cluster);
  const uint64_t l2_tables = div_round_up(clusters, cluster / entry);
  if (l2_tables > kMaxL1Bytes / 8) return too_large;
  const uint64_t l1_clusters = div_round_up(l2_tables, cluster / 8);

  // Refcounts cover themselves: grow them until they are enough.
  const uint64_t refcounts_per_block = cluster * 8 / options.refcount_bits;
  uint64_t blocks = 0;
  uint64_t tables = 0;
  while (true) {
    uint64_t all = 1 + l2_tables + l1_clusters + clusters + blocks + tables;
    uint64_t needed_blocks = div_round_up(all, refcounts_per_block);
    uint64_t needed_tables = div_round_up(needed_blocks, cluster / 8);
    if (needed_blocks == blocks && needed_tables == tables) break;
    blocks = needed_blocks;
    tables = needed_tables;
  }
  const uint64_t luks = align_up(qcow2::encryption_header_bytes(options), cluster);
  const uint64_t metadata = (1 + l2_tables + l1_clusters + blocks + tables) * cluster + luks;
  Measurement m;
  m.fully_allocated = metadata + clusters * cluster;
  bool all_reserved = options.preallocation == block::Preallocation::kFalloc ||
                      options.preallocation == block::Preallocation::kFull;
  m.required = all_reserved ? m.fully_allocated : metadata + data_bytes;
  return m;
}

Async<uint64_t> count_data(Executor& executor, block::Node& node, uint64_t cluster_size) {
  ChainMap map(node);
  uint64_t bytes = 0;
  unsigned steps = 0;
  for (uint64_t offset = 0; offset < node.size();) {
    if (++steps % kStepsBetweenYields == 0) co_await executor.yield();
    ByteRange rest{offset, node.size() - offset};
    CO_TRY(ChainExtent extent, co_await map.map(rest));
    uint64_t end = extent.range.end();
    if (!extent.zero && extent.data) {
      end = align_up(end, cluster_size);
      bytes += end - align_down(offset, cluster_size);
    }
    offset = end;
  }
  co_return bytes;
}

uint64_t measure_bitmaps(const std::vector<qcow2::BitmapInfo>& bitmaps, uint64_t size,
                         uint64_t cluster_size) {
  uint64_t bytes = 0;
  uint64_t directory = 0;
  for (const qcow2::BitmapInfo& bitmap : bitmaps) {
    if (bitmap.in_use) continue;  // inconsistent: not copied
    uint64_t bits = div_round_up(size, uint64_t{1} << bitmap.granularity_bits);
    uint64_t clusters = div_round_up(div_round_up(bits, 8), cluster_size);
    bytes += clusters * cluster_size + align_up(clusters * 8, cluster_size);
    directory += align_up(24 + bitmap.name.size(), 8);
  }
  return bytes + align_up(directory, cluster_size);
}

}  // namespace calf::ops
