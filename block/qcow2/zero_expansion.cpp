#include "block/qcow2/zero_expansion.h"

#include <unordered_map>

#include "block/qcow2/census.h"
#include "block/qcow2/reference_tree.h"
#include "block/qcow2/snapshot_steps.h"

namespace calf::qcow2 {
namespace {

Error damaged() {
  return make_error(ErrorKind::kCorrupt, "The image is damaged: repair it first (check -r all)");
}

class ZeroExpansion {
 public:
  ZeroExpansion(Image::State& state, const AmendProgress& progress)
      : state_(state), progress_(progress) {}

  Async<> run();

 private:
  struct Table {
    uint64_t l1_index = 0;
    // L1 tables that point to it.
    uint64_t users = 0;
    bool active = false;
    bool done = false;
  };
  // A new cluster, or the one that the entry has already.
  struct Place {
    uint64_t offset = 0;
    bool made = false;
  };

  Async<> note_tree(const std::vector<uint64_t>& l1, bool active);
  Async<> check_users();
  Async<> expand_tree(const std::vector<uint64_t>& l1);
  Async<> expand_table(uint64_t offset, const Table& table);
  Async<bool> replace_entries(const Table& table, std::vector<be64>* words,
                              std::vector<uint64_t>* made, std::vector<uint64_t>* old);
  Async<Place> place_zeroes(const L2Entry& entry, uint64_t guest, uint64_t users);
  Async<uint64_t> allocate(uint64_t users);
  Async<> write_zeroes(uint64_t guest, uint64_t host);
  ByteRange cluster_at(uint64_t offset) const { return {offset, state_.geometry().cluster_size()}; }

  Image::State& state_;
  const AmendProgress& progress_;
  std::unordered_map<uint64_t, Table> tables_;
  uint64_t entries_done_ = 0;
  uint64_t entries_total_ = 0;
};

Async<> ZeroExpansion::run() {
  Parts& parts = *state_.parts;
  RangeLock::Holder hold(parts.clusters, kWholeDisk, RangeLock::Mode::kExclusive);
  co_await hold.acquire();
  CO_TRY_VOID(co_await parts.write_back.flush());
  const std::vector<uint64_t> active = parts.mapping.l1().entries();
  CO_TRY_VOID(co_await note_tree(active, true));
  for (const SnapshotInfo& snapshot : state_.snapshots) {
    CO_TRY(std::vector<uint64_t> l1, co_await load_l1(state_, snapshot));
    CO_TRY_VOID(co_await note_tree(l1, false));
  }
  CO_TRY_VOID(co_await check_users());
  CO_TRY_VOID(co_await expand_tree(active));
  for (const SnapshotInfo& snapshot : state_.snapshots) {
    CO_TRY(std::vector<uint64_t> l1, co_await load_l1(state_, snapshot));
    CO_TRY_VOID(co_await expand_tree(l1));
  }
  co_return Result<void>();
}

Async<> ZeroExpansion::note_tree(const std::vector<uint64_t>& l1, bool active) {
  CO_TRY_VOID(co_await check_tree(state_, l1));
  entries_total_ += l1.size();
  for (uint64_t i = 0; i < l1.size(); ++i) {
    const L1Entry entry = L1Entry::decode(l1[i]);
    if (entry.offset == 0) continue;
    Table& table = tables_[entry.offset];
    if (table.users != 0 && table.l1_index != i) co_return damaged();
    table.l1_index = i;
    table.active |= active;
    ++table.users;
  }
  co_return Result<void>();
}

// The references that are added and dropped go by the users.
Async<> ZeroExpansion::check_users() {
  for (const auto& [offset, table] : tables_) {
    const uint64_t cluster = state_.geometry().cluster_index(offset);
    CO_TRY(uint64_t count, co_await state_.parts->refcounts.get(cluster));
    if (count != table.users) co_return damaged();
  }
  co_return Result<void>();
}

Async<> ZeroExpansion::expand_tree(const std::vector<uint64_t>& l1) {
  for (uint64_t raw : l1) {
    const uint64_t offset = L1Entry::decode(raw).offset;
    auto found = tables_.find(offset);
    if (found != tables_.end() && !found->second.done) {
      CO_TRY_VOID(co_await expand_table(offset, found->second));
      found->second.done = true;
    }
    ++entries_done_;
    if (progress_) progress_(entries_done_, entries_total_);
  }
  co_return Result<void>();
}

Async<> ZeroExpansion::expand_table(uint64_t offset, const Table& table) {
  Parts& parts = *state_.parts;
  const ByteRange place = cluster_at(offset);
  CO_TRY(bool hole, co_await is_hole(state_.file, place));
  if (hole) co_return Result<void>();
  std::vector<be64> words(place.length / 8);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(words.data()), place.length);
  CO_TRY_VOID(co_await state_.file.read_bytes(offset, bytes));
  std::vector<uint64_t> made;
  std::vector<uint64_t> old;
  Result<bool> changed = co_await replace_entries(table, &words, &made, &old);
  if (changed.ok() && !*changed) co_return Result<void>();
  Result<void> ready;
  if (changed.ok()) {
    ready = co_await parts.write_back.flush();
  } else {
    ready = std::move(changed.error());
  }
  if (!ready.ok()) {
    for (uint64_t cluster : made) {
      for (uint64_t i = 0; i < table.users; ++i)
        co_await parts.allocator.undo(cluster_at(cluster));
    }
    co_return ready;
  }
  parts.mapping.cache().drop(place);
  CO_TRY_VOID(co_await state_.file.write_bytes(offset, bytes));
  CO_TRY_VOID(co_await state_.file.flush());
  for (uint64_t cluster : old) {
    for (uint64_t i = 0; i < table.users; ++i)
      parts.allocator.free_later(cluster_at(cluster), false);
  }
  co_return Result<void>();
}

Async<bool> ZeroExpansion::replace_entries(const Table& table, std::vector<be64>* words,
                                           std::vector<uint64_t>* made,
                                           std::vector<uint64_t>* old) {
  const Geometry& g = state_.geometry();
  const uint64_t begin = table.l1_index << (g.cluster_bits + g.l2_bits());
  bool changed = false;
  for (uint64_t i = 0; i < g.l2_entries(); ++i) {
    const L2Entry entry = L2Entry::decode(load_l2_entry(words->data(), i, g), g);
    if (!entry.reads_zero()) continue;
    if (!changed) CO_TRY_VOID(co_await state_.parts->write_back.before_change());
    changed = true;
    const uint64_t guest = begin + (i << g.cluster_bits);
    L2Entry fresh;
    if (guest < state_.backing_size()) {
      CO_TRY(Place place, co_await place_zeroes(entry, guest, table.users));
      if (place.made) made->push_back(place.offset);
      fresh = L2Entry::data(place.offset);
      // Of no interest in the tables of snapshots; false is safe there.
      fresh.copied = table.active && table.users == 1;
    }
    if (entry.has_cluster() && fresh.offset != entry.offset) old->push_back(entry.offset);
    store_l2_entry(words->data(), i, fresh.encode(g), g);
  }
  co_return changed;
}

Async<ZeroExpansion::Place> ZeroExpansion::place_zeroes(const L2Entry& entry, uint64_t guest,
                                                        uint64_t users) {
  Place place;
  if (entry.has_cluster()) {
    const uint64_t cluster = state_.geometry().cluster_index(entry.offset);
    CO_TRY(uint64_t count, co_await state_.parts->refcounts.get(cluster));
    // Nobody but this table has it: what it holds is seen by no one.
    if (count == users) place.offset = entry.offset;
  }
  if (place.offset == 0) {
    CO_TRY(place.offset, co_await allocate(users));
    place.made = true;
  }
  Result<void> written = co_await write_zeroes(guest, place.offset);
  if (!written.ok()) {
    for (uint64_t i = 0; place.made && i < users; ++i)
      co_await state_.parts->allocator.undo(cluster_at(place.offset));
    co_return std::move(written.error());
  }
  co_return place;
}

Async<uint64_t> ZeroExpansion::allocate(uint64_t users) {
  Allocator& allocator = state_.parts->allocator;
  CO_TRY(Allocator::Allocation made, co_await allocator.allocate(1, "data cluster"));
  for (uint64_t references = 1; references < users;) {
    Result<void> added = co_await allocator.reference(std::span(&made.range, 1), &references);
    if (added.ok()) continue;
    for (; references != 0; --references)
      co_await allocator.undo(made.range);
    co_return std::move(added.error());
  }
  co_return made.range.offset;
}

Async<> ZeroExpansion::write_zeroes(uint64_t guest, uint64_t host) {
  const std::vector<uint8_t> zeroes(state_.geometry().cluster_size());
  FlatIo io(std::span<const uint8_t>{zeroes});
  co_return co_await state_.guest_data.write(guest, host, io.slice());
}

}  // namespace

Async<> expand_zero_clusters(Image::State& state, const AmendProgress& progress) {
  ZeroExpansion expansion(state, progress);
  Result<void> done = co_await expansion.run();
  if (done.ok()) co_return done;
  co_return std::move(done.error()).with_context("Failed to turn zero into data clusters");
}

}  // namespace calf::qcow2
