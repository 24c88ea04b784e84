// WriteBack: the order in which metadata reaches the file.
//
// Until it is written, changed metadata exists in memory only, so a crash between two runs leaves
// what the last run wrote. A run writes copies taken at its start in stages; between stages the
// file is synced. Each edge prevents one crash:
//
//   1  new refcount blocks
//      ══ sync   A refcount table entry that reaches the disk before its block would turn whatever
//                the block's cluster held into refcounts: used clusters would count as free.
//   2  refcount table entries, refcounts (here they only ever grew), new L2 tables; guest data is
//      in the file already. An entry whose block another new block counts waits for that one's
//      entry and a sync: or a block would be in use that counts as free
//      ══ sync   An L2 entry before its cluster's refcount: the cluster would be handed out twice.
//                An L2 entry before the data: the guest would find stale bytes where a flushed
//                backing cluster was. An L1 entry before the table: garbage as L2 entries.
//   3  entries of L2 tables, 4 of the L1 table: they point to finished things only, so they may
//      reach the disk in any order
//      ══ sync   A refcount that drops before the last pointer is gone: the same double use.
//   5  what lost its last pointer is freed (Allocator::apply): hole punched, then refcount
//      dropped, in memory; it is written by the next run's stage 2.
//
// If a run fails, everything it took counts as changed again. As stage 4 may have happened without
// stage 3, a sync is put between the two until a run succeeds.
//
// Lazy refcounts: the dirty bit is durable before the first change, stage 2 leaves counts out (new
// blocks are still linked, so that a rebuild finds a place for each count), and close() writes them
// and clears the bit.
#pragma once

#include <cstdint>

#include "block/qcow2/allocator.h"
#include "block/qcow2/mapping.h"

namespace calf::qcow2 {

class WriteBack {
 public:
  WriteBack(Executor& executor, HostFile& file, HeaderFile& header, Refcounts& refcounts,
            Allocator& allocator, Mapping& mapping, MetadataMap& map, Health& health,
            AsyncMutex& order);

  // Guest data is in another file: synced before anything points to it.
  void set_data_file(HostFile* data) { data_ = data; }

  // Everything that ended before the call is durable afterwards. Callers at the same time share a
  // run.
  Async<> flush();
  // Before the first change of metadata of a request: sets the dirty bit if refcounts are lazy, and
  // writes back if too much is dirty.
  Async<> before_change();
  // flush(), all frees applied, refcounts written, dirty bit cleared.
  Async<> finish();

  // From here to settle() refcounts and COPIED flags in the file may disagree (never so that used
  // clusters could be taken for free or shared ones for our own). The dirty bit is set, durably, so
  // that the next open puts right what a crash leaves; version 2 has none, and leaves it to a
  // check. Everything else that a crash of an operation in between leaves is leaked clusters.
  Async<> unsettle();
  // They agree in memory: finish(), the dirty bit goes.
  Async<> settle();

 private:
  struct Batch;
  Async<> run(bool with_refcounts);
  Async<> write_stages(Batch& batch);
  Result<void> check(const Batch& batch) const;
  Async<> write_links(std::vector<Refcounts::TableEntryWrite> links);
  Async<> write_tables(const std::vector<const TableWrite*>& writes);
  void restore(Batch& batch);
  bool lazy() const;
  Async<> set_dirty_bit();

  Executor& executor_;
  HostFile& file_;
  HostFile* data_ = nullptr;
  HeaderFile& header_;
  Refcounts& refcounts_;
  Allocator& allocator_;
  Mapping& mapping_;
  MetadataMap& map_;
  Health& health_;
  AsyncMutex& order_;
  AsyncMutex dirty_mutex_;
  uint64_t started_ = 0;
  uint64_t finished_ = 0;
  // A run failed: L1 entries may be in the file without their tables.
  bool cautious_ = false;
  // Operations between unsettle() and settle(), and those that never got there: the dirty bit
  // stays.
  unsigned unsettled_ = 0;
};

}  // namespace calf::qcow2
