#include "block/qcow2/copied_flags.h"

#include <unordered_set>

namespace calf::qcow2 {
namespace {

struct FlagCheck {
  Image::State& state;
  const References& references;
  bool repair;
  CheckResult& result;
  const FindingSink& sink;
  Geometry g;
  Deadline deadline;

  const char* verb() const { return repair ? "Repairing" : "ERROR"; }
  void found() { ++(repair ? result.corruptions_fixed : result.corruptions); }
  bool known(uint64_t offset) const {
    return !references.has_flag(g.cluster_index(offset), References::kUnreadable);
  }
  uint32_t refcount(uint64_t offset) const { return references.refcount(g.cluster_index(offset)); }
};

// Cheap first: most images have no entry whose flag is wrong, and no table needs to be read again.
bool flags_disagree(const References& references) {
  for (uint64_t number : references.page_numbers()) {
    if (references.find(number)->has_wrong_copied()) return true;
  }
  return false;
}

Async<> check_l2(FlagCheck& check, uint64_t l2_offset) {
  CO_TRY_VOID(check.deadline.check());
  HostFile& file = check.state.file;
  const ByteRange range{l2_offset, check.g.cluster_size()};
  CO_TRY(bool hole, co_await is_hole(file, range));
  if (hole) co_return Result<void>();
  std::vector<be64> words(check.g.cluster_size() / 8);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(words.data()), check.g.cluster_size());
  CO_TRY_VOID(co_await file.read_bytes(l2_offset, bytes));
  bool changed = false;
  for (uint64_t i = 0; i < check.g.l2_entries(); ++i) {
    CO_TRY_VOID(check.deadline.check_often());
    RawL2Entry raw = load_l2_entry(words.data(), i, check.g);
    const L2Entry entry = L2Entry::decode(raw, check.g);
    if (!entry.has_cluster() || entry.kind == ClusterKind::kInvalid) continue;
    if (!check.known(entry.offset)) continue;
    // A data file's clusters have no counts: each belongs to its guest cluster alone.
    const uint32_t refcount = check.g.external_data ? 1 : check.refcount(entry.offset);
    if (entry.copied == (refcount == 1)) continue;
    check.sink(fmt::format("{} OFLAG_COPIED data cluster: l2_entry={:x} refcount={}", check.verb(),
                           raw.descriptor, refcount));
    check.found();
    raw.descriptor ^= format::kCopied;
    store_l2_entry(words.data(), i, raw, check.g);
    changed = true;
  }
  if (!changed || !check.repair) co_return Result<void>();
  if (check.state.parts->map.find(range, static_cast<uint16_t>(Area::kActiveL2)) != 0) {
    ++check.result.check_errors;
    check.sink(
        "ERROR: Could not write L2 table; metadata overlap check failed: Input/output error");
    co_return Result<void>();
  }
  co_return co_await file.write_bytes(l2_offset, bytes);
}

Async<> check_l1_entry(FlagCheck& check, uint64_t index) {
  const L1Table& l1 = check.state.parts->mapping.l1();
  const L1Entry entry = l1.get(index);
  const uint32_t refcount = check.refcount(entry.offset);
  if (!check.known(entry.offset) || entry.copied == (refcount == 1)) co_return Result<void>();
  check.sink(fmt::format("{} OFLAG_COPIED L2 cluster: l1_index={} l1_entry={:x} refcount={}",
                         check.verb(), index, l1.raw(index), refcount));
  check.found();
  if (!check.repair) co_return Result<void>();
  be64 raw = l1.raw(index) ^ format::kCopied;
  std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(&raw), sizeof raw);
  co_return co_await check.state.file.write_bytes(l1.offset() + index * 8, bytes);
}

}  // namespace

Async<> check_copied_flags(Image::State& state, const References& references, bool repair,
                           CheckResult& result, const FindingSink& sink, Deadline deadline) {
  FlagCheck check{state, references, repair, result, sink, state.geometry(), deadline};
  const bool read_tables = check.g.external_data || flags_disagree(references);
  L1Table& l1 = state.parts->mapping.l1();
  // A table that many entries point to is looked at once: four million of them can do so.
  std::unordered_set<uint64_t> looked_at;
  for (uint64_t i = 0; i < l1.size(); ++i) {
    CO_TRY_VOID(check.deadline.check_often());
    const L1Entry entry = l1.get(i);
    if (entry.offset == 0 || !check.g.is_cluster_aligned(entry.offset)) continue;
    CO_TRY_VOID(co_await check_l1_entry(check, i));
    if (!read_tables || !looked_at.insert(entry.offset).second) continue;
    CO_TRY_VOID(co_await check_l2(check, entry.offset));
  }
  if (repair) {
    CO_TRY_VOID(
        co_await l1.load(state.file, state.header.get().l1_offset, state.header.get().l1_entries));
  }
  co_return Result<void>();
}

}  // namespace calf::qcow2
