// Emptying an image, and giving the end of the file back to the host.
#include <algorithm>

#include "block/qcow2/image_state.h"
#include "block/qcow2/reference_tree.h"

namespace calf::qcow2 {

// The L1 table is cleared where it stands: each entry that is gone uncovers the backing node for
// its part of the disk, and frees nothing. What hung on it is freed once all of them are gone,
// durably, so a crash leaks clusters at worst.
Async<> make_empty(Image::State& state) {
  Parts& parts = *state.parts;
  RangeLock::Holder hold(parts.clusters, kWholeDisk, RangeLock::Mode::kExclusive);
  co_await hold.acquire();
  CO_TRY_VOID(co_await parts.write_back.flush());
  L1Table& l1 = parts.mapping.l1();
  const std::vector<uint64_t> old = l1.entries();
  CO_TRY_VOID(co_await check_tree(state, old));
  CO_TRY_VOID(co_await parts.write_back.before_change());
  for (uint64_t i = 0; i < old.size(); ++i) {
    if (old[i] == 0) continue;
    parts.map.remove_table(Area::kActiveL2, L1Entry::decode(old[i]).offset);
    l1.set(i, L1Entry{});
  }
  parts.mapping.cache().drop_all();
  CO_TRY_VOID(co_await parts.write_back.flush());
  CO_TRY_VOID(co_await drop_references(state, old, true));
  co_return co_await cut_file(state);
}

Async<> cut_file(Image::State& state) {
  Parts& parts = *state.parts;
  const Geometry& g = state.geometry();
  CO_TRY_VOID(co_await parts.write_back.finish());
  CO_TRY_VOID(co_await parts.allocator.drop_empty_blocks());
  CO_TRY_VOID(co_await parts.write_back.finish());
  const uint64_t clusters = g.clusters_for(state.file.size());
  uint64_t used = clusters;
  while (used != 0) {
    // A block that does not exist counts nothing, all at once.
    if (!parts.refcounts.covered(used - 1)) {
      used = align_down(used - 1, g.refcounts_per_block());
      continue;
    }
    CO_TRY(uint64_t count, co_await parts.refcounts.get(used - 1));
    if (count != 0) break;
    --used;
  }
  if (used == 0 || used == clusters) co_return Result<void>();
  co_return co_await state.file.node().truncate(used << g.cluster_bits, block::Preallocation::kOff);
}

}  // namespace calf::qcow2
