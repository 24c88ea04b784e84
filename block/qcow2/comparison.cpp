#include "block/qcow2/comparison.h"

#include <algorithm>

#include "block/qcow2/c_hex.h"

namespace calf::qcow2 {

Comparison::Comparison(Image::State& state, Census& census, CheckResult& result,
                       const FindingSink& sink, Deadline deadline)
    : state_(state),
      g_(state.geometry()),
      references_(census.references()),
      result_(result),
      sink_(sink),
      deadline_(deadline),
      file_clusters_(g_.clusters_for(state.file.size())),
      pages_(references_.page_numbers()),
      blocks_(state.file) {}

// True if the count is to be put right.
bool Comparison::note(uint64_t cluster, uint64_t refcount, uint32_t references, Repair repair) {
  if (refcount != 0 || references != 0) {
    result_.image_end_offset = std::max(result_.image_end_offset, (cluster + 1) << g_.cluster_bits);
  }
  if (refcount == references) return false;
  const bool leak = refcount > references;
  bool fix = false;
  if (refcount == 0) {
    needs_rebuild_ = true;
  } else {
    fix = leak ? repair != Repair::kNone : repair == Repair::kAll;
  }
  sink_(fmt::format("{} cluster {} refcount={} reference={}",
                    fix    ? "Repairing"
                    : leak ? "Leaked"
                           : "ERROR",
                    cluster, refcount, references));
  if (fix) {
    ++(leak ? result_.leaks_fixed : result_.corruptions_fixed);
  } else {
    ++(leak ? result_.leaks : result_.corruptions);
  }
  return fix;
}

// Clusters that no block counts have refcount 0.
Result<void> Comparison::compare_free(uint64_t first, uint64_t end) {
  auto it = std::lower_bound(pages_.begin(), pages_.end(), first >> References::kPageBits);
  for (; it != pages_.end(); ++it) {
    TRY_VOID(deadline_.check());
    References::Page* page = references_.find(*it);
    for (uint64_t i = 0; i < References::kPageClusters; ++i) {
      const uint64_t cluster = (*it << References::kPageBits) + i;
      if (cluster < first) continue;
      if (cluster >= end) return {};
      page->set_refcount(i, 0);
      note(cluster, 0, page->references(i), Repair::kNone);
    }
  }
  return {};
}

bool Comparison::may_read_again(uint64_t offset) {
  constexpr unsigned kMostReads = 16;
  return ++reads_[offset] <= kMostReads;
}

void Comparison::cannot_read(Block block, uint64_t index) {
  state_.health.harmless(fmt::format("Refblock offset {:#x} unaligned (reftable index: {})",
                                     block.offset, c_hex(index)));
  for (uint64_t cluster = block.first; cluster < block.end; ++cluster) {
    ++result_.check_errors;
    if (unreadable_left_ == 0) break;
    --unreadable_left_;
    sink_(fmt::format("Can't get refcount for cluster {}: Input/output error", cluster));
  }
  auto it = std::lower_bound(pages_.begin(), pages_.end(), block.first >> References::kPageBits);
  for (; it != pages_.end() && *it << References::kPageBits < block.end; ++it) {
    for (uint64_t i = 0; i < References::kPageClusters; ++i)
      references_.add_flag((*it << References::kPageBits) + i, References::kUnreadable);
  }
}

// Ascending; neighbours become one range.
void Comparison::add_cluster(std::vector<ByteRange>& ranges, uint64_t cluster) const {
  const uint64_t offset = cluster << g_.cluster_bits;
  if (ranges.empty() || ranges.back().end() != offset) ranges.push_back({offset, 0});
  ranges.back().length += g_.cluster_size();
}

// True if the counts of a whole page, from `index` of the block on, are what was counted, as those
// of nearly every page are.
bool Comparison::agrees(const References::Page* page, const uint8_t* block, uint64_t index) const {
  static constexpr References::Page::ByteCounts kNothing = {};
  const std::optional<References::Page::ByteCounts> counted =
      page != nullptr ? page->byte_counts() : kNothing;
  return counted && counts_equal(block, index, g_.refcount_order, *counted);
}

// What note() does about clusters that need no word.
void Comparison::note_used(const References::Page* page, uint64_t first) {
  if (page == nullptr) return;
  for (uint64_t i = References::kPageClusters; i-- != 0;) {
    if (page->references(i) == 0) continue;
    result_.image_end_offset =
        std::max(result_.image_end_offset, (first + i + 1) << g_.cluster_bits);
    return;
  }
}

Async<> Comparison::compare_block(Block block, Repair repair) {
  CO_TRY_VOID(deadline_.check());
  const ByteRange range{block.offset, g_.cluster_size()};
  std::vector<uint8_t> bytes(g_.cluster_size());
  bool has_content = may_read_again(block.offset);
  if (has_content) {
    CO_TRY(has_content, co_await blocks_.read(block.offset, bytes));
  }
  if (!has_content) {
    CO_TRY_VOID(compare_free(block.first, block.end));
    co_return Result<void>();
  }
  std::vector<ByteRange> freed;
  References::Page* page = nullptr;
  bool changed = false;
  for (uint64_t cluster = block.first; cluster < block.end; ++cluster) {
    CO_TRY_VOID(deadline_.check_often());
    const uint64_t in_page = cluster % References::kPageClusters;
    const uint64_t index = cluster - block.first;
    if (in_page == 0) {
      page = references_.find(cluster >> References::kPageBits);
      if (cluster + References::kPageClusters <= block.end && agrees(page, bytes.data(), index)) {
        note_used(page, cluster);
        cluster += References::kPageClusters - 1;
        continue;
      }
    }
    uint64_t refcount = get_count(bytes.data(), index, g_.refcount_order);
    const uint32_t references = page != nullptr ? page->references(in_page) : 0;
    if (note(cluster, refcount, references, repair)) {
      refcount = references;
      set_count(bytes.data(), index, g_.refcount_order, refcount);
      changed = true;
      if (refcount == 0) add_cluster(freed, cluster);
    }
    if (page != nullptr) page->set_refcount(in_page, refcount);
  }
  if (!changed) co_return Result<void>();
  state_.parts->refcounts.cache().drop(range);
  CO_TRY_VOID(co_await state_.file.write_bytes(block.offset, bytes));
  for (ByteRange gone : freed) {
    // A hole is a favour to the host: failing to punch it costs space only.
    Result<void> punched = co_await state_.file.discard(gone);
    (void)punched;
  }
  co_return Result<void>();
}

Async<> Comparison::run(Repair repair) {
  needs_rebuild_ = false;
  // There is a header.
  result_.image_end_offset = std::max(result_.image_end_offset, g_.cluster_size());
  reads_.clear();
  const std::vector<uint64_t>& table = state_.parts->refcounts.table();
  uint64_t uncovered_from = 0;
  for (uint64_t i = 0; i < table.size(); ++i) {
    const uint64_t offset = table[i] & format::kRefcountOffsetMask;
    if (offset == 0) continue;
    const uint64_t first = i << g_.refcount_block_bits();
    CO_TRY_VOID(compare_free(uncovered_from, first));
    uncovered_from = first + g_.refcounts_per_block();
    const Block block{offset, first, std::min(uncovered_from, file_clusters_)};
    if (block.first >= block.end) continue;
    if (!g_.is_cluster_aligned(offset)) {
      cannot_read(block, i);
      continue;
    }
    CO_TRY_VOID(co_await compare_block(block, repair));
  }
  CO_TRY_VOID(compare_free(uncovered_from, UINT64_MAX));
  co_return Result<void>();
}

}  // namespace calf::qcow2
