#include "block/qcow2/check.h"

#include <algorithm>

#include "block/qcow2/census.h"

namespace calf::qcow2 {
namespace {

// Compares the census with the refcounts, and puts refcounts right. The second half of check.
class Comparison {
 public:
  Comparison(Image::State& state, Census& census, CheckResult& result, const FindingSink& sink)
      : state_(state),
        g_(state.geometry()),
        census_(census),
        references_(census.references()),
        result_(result),
        sink_(sink),
        file_clusters_(g_.clusters_for(state.file.size())) {}

  struct Wrong {
    uint64_t cluster;
    uint64_t refcount;
    uint32_t references;
  };

  // Reports every cluster whose refcount is wrong.
  Async<> compare();
  // Puts right what `repair` allows.
  Async<> fix(Repair repair);
  const std::vector<Wrong>& wrong() const { return wrong_; }
  // A used cluster has no refcount block that could count it.
  bool uncovered() const { return uncovered_; }

  Async<> check_copied(bool repair);

 private:
  Async<> compare_block(uint64_t first_cluster, uint64_t block_offset);
  void compare_uncovered(uint64_t first_cluster, uint64_t end_cluster);
  void note(uint64_t cluster, uint64_t refcount, uint32_t references);
  bool flags_disagree() const;
  Async<> check_copied_table(uint64_t l2_offset, bool repair);

  Image::State& state_;
  Geometry g_;
  Census& census_;
  References& references_;
  CheckResult& result_;
  const FindingSink& sink_;
  uint64_t file_clusters_;
  std::vector<Wrong> wrong_;
  std::vector<uint64_t> pages_;
  bool uncovered_ = false;
};

void Comparison::note(uint64_t cluster, uint64_t refcount, uint32_t references) {
  if (refcount != 0 || references != 0) {
    result_.image_end_offset = std::max(result_.image_end_offset, (cluster + 1) << g_.cluster_bits);
  }
  if (refcount == references) return;
  wrong_.push_back({cluster, refcount, references});
  if (refcount < references) {
    ++result_.corruptions;
  } else {
    ++result_.leaks;
  }
  sink_(fmt::format("{} cluster {} refcount={} reference={}",
                    refcount < references ? "ERROR" : "Leaked", cluster, refcount, references));
}

void Comparison::compare_uncovered(uint64_t first_cluster, uint64_t end_cluster) {
  auto it = std::lower_bound(pages_.begin(), pages_.end(), first_cluster >> References::kPageBits);
  for (; it != pages_.end(); ++it) {
    const References::Page* page = references_.find(*it);
    for (uint64_t i = 0; i < References::kPageClusters; ++i) {
      uint64_t cluster = (*it << References::kPageBits) + i;
      if (cluster < first_cluster || page->references[i] == 0) continue;
      if (cluster >= end_cluster) return;
      uncovered_ = true;
      note(cluster, 0, page->references[i]);
    }
  }
}

Async<> Comparison::compare_block(uint64_t first_cluster, uint64_t block_offset) {
  const uint64_t end = std::min(first_cluster + g_.refcounts_per_block(), file_clusters_);
  if (first_cluster >= end) co_return Result<void>();
  std::vector<uint8_t> bytes(g_.cluster_size());
  ByteRange range{block_offset, g_.cluster_size()};
  CO_TRY(bool hole, co_await is_hole(state_.file, range));
  if (!hole) CO_TRY_VOID(co_await state_.file.read_bytes(block_offset, bytes));
  if (hole) {
    // All counts are zero, but there is a block to put them right in.
    bool was_uncovered = uncovered_;
    compare_uncovered(first_cluster, end);
    uncovered_ = was_uncovered;
    co_return Result<void>();
  }
  References::Page* page = nullptr;
  for (uint64_t cluster = first_cluster; cluster < end; ++cluster) {
    const uint64_t in_page = cluster % References::kPageClusters;
    if (in_page == 0 || cluster == first_cluster) {
      page = references_.find(cluster >> References::kPageBits);
    }
    const uint64_t refcount = get_count(bytes.data(), cluster - first_cluster, g_.refcount_order);
    uint32_t references = 0;
    if (page != nullptr) {
      references = page->references[in_page];
      page->refcounts[in_page] = static_cast<uint32_t>(std::min<uint64_t>(refcount, UINT32_MAX));
    }
    if (refcount != 0 || references != 0) note(cluster, refcount, references);
  }
  co_return Result<void>();
}

Async<> Comparison::compare() {
  pages_ = references_.page_numbers();
  const std::vector<uint64_t>& table = state_.parts->refcounts.table();
  uint64_t uncovered_from = 0;
  for (uint64_t i = 0; i < table.size(); ++i) {
    if (table[i] == 0 || census_.bad_blocks().contains(i)) continue;
    const uint64_t first = i << g_.refcount_block_bits();
    compare_uncovered(uncovered_from, first);
    CO_TRY_VOID(co_await compare_block(first, table[i]));
    uncovered_from = first + g_.refcounts_per_block();
  }
  compare_uncovered(uncovered_from, UINT64_MAX);
  co_return Result<void>();
}

Async<> Comparison::fix(Repair repair) {
  const std::vector<uint64_t>& table = state_.parts->refcounts.table();
  std::vector<uint8_t> bytes(g_.cluster_size());
  for (size_t i = 0; i < wrong_.size();) {
    const uint64_t index = wrong_[i].cluster >> g_.refcount_block_bits();
    const bool usable =
        index < table.size() && table[index] != 0 && !census_.bad_blocks().contains(index);
    if (!usable) {
      ++i;
      continue;
    }
    const uint64_t block = table[index];
    CO_TRY_VOID(co_await state_.file.read_bytes(block, bytes));
    bool changed = false;
    for (; i < wrong_.size() && wrong_[i].cluster >> g_.refcount_block_bits() == index; ++i) {
      const Wrong& wrong = wrong_[i];
      const bool leak = wrong.refcount > wrong.references;
      if (!leak && repair != Repair::kAll) continue;
      if (wrong.references > g_.max_refcount()) {
        ++result_.check_errors;
        sink_(
            fmt::format("ERROR: overflow cluster offset={:#x}", wrong.cluster << g_.cluster_bits));
        continue;
      }
      sink_(fmt::format("Repairing cluster {} refcount={} reference={}", wrong.cluster,
                        wrong.refcount, wrong.references));
      set_count(bytes.data(), wrong.cluster & (g_.refcounts_per_block() - 1), g_.refcount_order,
                wrong.references);
      if (References::Page* page = references_.find(wrong.cluster >> References::kPageBits)) {
        page->refcounts[wrong.cluster % References::kPageClusters] = wrong.references;
      }
      changed = true;
      if (leak) {
        --result_.leaks;
        ++result_.leaks_fixed;
      } else {
        --result_.corruptions;
        ++result_.corruptions_fixed;
      }
    }
    if (changed) CO_TRY_VOID(co_await state_.file.write_bytes(block, bytes));
  }
  co_return co_await state_.file.flush();
}

// Cheap first: most images have no entry whose flag is wrong, and no table needs to be read again.
bool Comparison::flags_disagree() const {
  for (uint64_t number : pages_) {
    const References::Page* page = references_.find(number);
    for (uint64_t i = 0; i < References::kPageClusters; ++i) {
      uint8_t wrong = page->refcounts[i] == 1 ? References::kCopiedClear : References::kCopiedSet;
      if ((page->flags[i] & wrong) != 0) return true;
    }
  }
  return false;
}

Async<> Comparison::check_copied(bool repair) {
  const bool read_tables = !g_.external_data && flags_disagree();
  const Header& header = state_.header.get();
  L1Table& l1 = state_.parts->mapping.l1();
  const char* verb = repair ? "Repairing" : "ERROR";
  for (uint64_t i = 0; i < l1.size(); ++i) {
    L1Entry entry = l1.get(i);
    if (entry.offset == 0 || !g_.is_cluster_aligned(entry.offset)) continue;
    const uint32_t refcount = references_.refcount(g_.cluster_index(entry.offset));
    if (entry.copied != (refcount == 1)) {
      sink_(fmt::format("{} OFLAG_COPIED L2 cluster: l1_index={} l1_entry={:x} refcount={}", verb,
                        i, l1.raw(i), refcount));
      if (repair) {
        be64 raw = l1.raw(i) ^ format::kCopied;
        std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(&raw), sizeof raw);
        CO_TRY_VOID(co_await state_.file.write_bytes(header.l1_offset + i * 8, bytes));
        ++result_.corruptions_fixed;
      } else {
        ++result_.corruptions;
      }
    }
    if (read_tables) CO_TRY_VOID(co_await check_copied_table(entry.offset, repair));
  }
  if (repair) {
    CO_TRY_VOID(co_await state_.file.flush());
    CO_TRY_VOID(co_await l1.load(state_.file, header.l1_offset, header.l1_entries));
  }
  co_return Result<void>();
}

Async<> Comparison::check_copied_table(uint64_t l2_offset, bool repair) {
  ByteRange range{l2_offset, g_.cluster_size()};
  CO_TRY(bool hole, co_await is_hole(state_.file, range));
  if (hole) co_return Result<void>();
  std::vector<be64> words(g_.cluster_size() / 8);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(words.data()), g_.cluster_size());
  CO_TRY_VOID(co_await state_.file.read_bytes(l2_offset, bytes));
  bool changed = false;
  for (uint64_t i = 0; i < g_.l2_entries(); ++i) {
    RawL2Entry raw = load_l2_entry(words.data(), i, g_);
    L2Entry entry = L2Entry::decode(raw, g_);
    if (!entry.has_cluster() || entry.kind == ClusterKind::kInvalid) continue;
    const uint32_t refcount = references_.refcount(g_.cluster_index(entry.offset));
    if (entry.copied == (refcount == 1)) continue;
    sink_(fmt::format("{} OFLAG_COPIED data cluster: l2_entry={:x} refcount={}",
                      repair ? "Repairing" : "ERROR", raw.descriptor, refcount));
    if (repair) {
      raw.descriptor ^= format::kCopied;
      store_l2_entry(words.data(), i, raw, g_);
      changed = true;
      ++result_.corruptions_fixed;
    } else {
      ++result_.corruptions;
    }
  }
  if (changed) CO_TRY_VOID(co_await state_.file.write_bytes(l2_offset, bytes));
  co_return Result<void>();
}

// One pass. `trust_nothing`: the image is dirty, so counts of 0 on used clusters are expected.
Async<CheckResult> pass(Image::State& state, Repair repair, bool dirty, const FindingSink& sink) {
  CheckResult result;
  result.total_clusters = state.geometry().clusters_for(state.size);
  Census census(state, result, sink);
  CO_TRY_VOID(co_await census.run());
  Comparison comparison(state, census, result, sink);
  CO_TRY_VOID(co_await comparison.compare());

  if (repair != Repair::kNone) {
    bool lost = census.needs_rebuild() || comparison.uncovered();
    for (const Comparison::Wrong& wrong : comparison.wrong())
      lost |= wrong.refcount == 0 && repair == Repair::kLeaks && !dirty;
    if (lost) {
      sink("ERROR need to rebuild refcount structures");
      if (repair == Repair::kAll) {
        co_return make_error(ErrorKind::kUnsupported,
                             "Rebuilding the refcount structure is not supported");
      }
      co_return Error::from_errno(EIO);
    }
    CO_TRY_VOID(co_await comparison.fix(repair));
    state.parts->allocator.forget();
  }
  const bool clean = result.check_errors == 0 && result.corruptions == 0 && result.leaks == 0;
  CO_TRY_VOID(co_await comparison.check_copied(repair == Repair::kAll && clean));
  co_return result;
}

}  // namespace

Async<CheckResult> check(Image& image, Repair repair, const FindingSink& sink) {
  Image::State& state = image.state();
  if (repair != Repair::kNone && !state.options.writable) {
    co_return make_error(ErrorKind::kReadOnly, "The image is opened read-only");
  }
  const bool dirty = state.header.get().has(format::kDirty);
  CO_TRY(CheckResult result, co_await pass(state, repair, dirty, sink));
  // Everything is right again: the bits that say otherwise go.
  const uint64_t bits = state.header.get().incompatible & (format::kDirty | format::kCorrupt);
  if (repair == Repair::kAll && bits != 0 && result.corruptions == 0 && result.check_errors == 0) {
    std::function<void(Header&)> change = [bits](Header& header) { header.incompatible &= ~bits; };
    CO_TRY_VOID(co_await state.header.update(change));
    CO_TRY_VOID(co_await state.file.flush());
  }
  co_return result;
}

Async<> rebuild_refcounts(Image& image) {
  Image::State& state = image.state();
  const FindingSink sink = [&state](std::string_view line) { state.health.say(line); };
  CO_TRY(CheckResult result, co_await pass(state, Repair::kAll, true, sink));
  if (result.corruptions != 0 || result.check_errors != 0) {
    co_return make_error(ErrorKind::kCorrupt,
                         "The image was not closed cleanly and could not be repaired; run a check "
                         "with repair on it");
  }
  std::function<void(Header&)> change = [](Header& h) { h.incompatible &= ~format::kDirty; };
  CO_TRY_VOID(co_await state.header.update(change));
  co_return co_await state.file.flush();
}

}  // namespace calf::qcow2
