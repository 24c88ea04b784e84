#include "block/qcow2/check.h"

#include <cassert>

#include "block/qcow2/census.h"
#include "block/qcow2/comparison.h"
#include "block/qcow2/copied_flags.h"
#include "block/qcow2/refcount_rebuild.h"
#include "block/qcow2/snapshot_check.h"

namespace calf::qcow2 {
namespace {

// A new refcount structure, and the old one's clusters given back. `result`: what was found before;
// what is found again afterwards stays, the rest counts as fixed. `census`: the references since.
Async<> rebuild(Image::State& state, std::unique_ptr<Census>& census, CheckResult& result,
                Repair repair, const FindingSink& sink) {
  sink("Rebuilding refcount structure");
  CO_TRY_VOID(co_await rebuild_refcount_structure(state, census->references()));
  const CheckResult before = std::exchange(result, CheckResult{});
  census = std::make_unique<Census>(state, result, sink, false);
  CO_TRY_VOID(co_await census->run());
  CheckResult leaks_of_the_old;
  Comparison comparison(state, *census, leaks_of_the_old, sink);
  CO_TRY_VOID(co_await comparison.run(Repair::kLeaks));
  if (comparison.needs_rebuild()) sink("ERROR rebuilt refcount structure is still broken");
  result.check_errors += before.check_errors;
  result.corruptions_fixed = before.corruptions_fixed;
  result.leaks_fixed = before.leaks_fixed;
  if (result.corruptions < before.corruptions) {
    result.corruptions_fixed += before.corruptions - result.corruptions;
  }
  if (repair != Repair::kNone) result.leaks_fixed += before.leaks;
  result.image_end_offset = leaks_of_the_old.image_end_offset;
  result.total_clusters = before.total_clusters;
  co_return Result<void>();
}

Async<> check_refcounts(Image::State& state, Repair repair, CheckResult& result,
                        const FindingSink& sink, Deadline deadline) {
  result.total_clusters = state.geometry().clusters_for(state.size);
  auto census = std::make_unique<Census>(state, result, sink, repair == Repair::kAll, deadline);
  CO_TRY_VOID(co_await census->run());
  // What was not counted would be given away as free.
  if (result.check_errors != 0) repair = Repair::kNone;
  const CheckResult counted = result;
  Comparison comparison(state, *census, result, sink, deadline);
  CO_TRY_VOID(co_await comparison.run(Repair::kNone));
  const bool lost = census->needs_rebuild() || comparison.needs_rebuild();
  if (lost && repair == Repair::kAll) {
    CO_TRY_VOID(co_await rebuild(state, census, result, repair, sink));
  } else if (lost && repair == Repair::kLeaks) {
    sink("ERROR need to rebuild refcount structures");
    co_return Error::from_errno(EIO);
  } else if (repair != Repair::kNone && (result.leaks != 0 || result.corruptions != 0)) {
    result = counted;
    CO_TRY_VOID(co_await comparison.run(repair));
  }
  // Flags follow the refcounts: with wrong ones left, only a full repair may change them.
  const bool clean = result.check_errors == 0 && result.corruptions == 0 && result.leaks == 0;
  const bool fix_flags = repair == Repair::kAll || (repair == Repair::kLeaks && clean);
  CO_TRY_VOID(
      co_await check_copied_flags(state, census->references(), fix_flags, result, sink, deadline));
  if (repair != Repair::kNone) {
    CO_TRY_VOID(co_await state.file.flush());
    state.parts->allocator.forget();
  }
  co_return Result<void>();
}

// Everything is right again: the bits that say otherwise go.
Async<> clear_bits(Image::State& state, const CheckResult& result) {
  const uint64_t bits = state.header.get().incompatible & (format::kDirty | format::kCorrupt);
  if (bits == 0 || result.corruptions != 0 || result.check_errors != 0) co_return Result<void>();
  std::function<void(Header&)> change = [bits](Header& header) { header.incompatible &= ~bits; };
  CO_TRY_VOID(co_await state.header.update(change));
  co_return co_await state.file.flush();
}

}  // namespace

Async<CheckResult> check(Image& image, Repair repair, const FindingSink& sink, Deadline deadline) {
  // Half of a repair may be worse than none.
  assert(repair == Repair::kNone || !deadline.is_set());
  Image::State& state = image.state();
  if (repair != Repair::kNone && !state.options.writable) {
    co_return make_error(ErrorKind::kReadOnly, "The image is opened read-only");
  }
  CheckResult snapshots;
  CO_TRY_VOID(co_await load_snapshots_for_check(state, repair == Repair::kAll, snapshots, sink));
  CheckResult result;
  CO_TRY_VOID(co_await check_refcounts(state, repair, result, sink, deadline));
  // With wrong refcounts left there is no safe place for a new table.
  if (repair == Repair::kAll && result.corruptions == 0 && result.check_errors == 0) {
    CO_TRY_VOID(co_await repair_snapshot_table(state, snapshots, sink));
  }
  result.corruptions += snapshots.corruptions;
  result.corruptions_fixed += snapshots.corruptions_fixed;
  result.check_errors += snapshots.check_errors;
  if (repair != Repair::kNone) CO_TRY_VOID(co_await clear_bits(state, result));
  co_return result;
}

Async<> repair_dirty(Image& image) {
  Image::State& state = image.state();
  const FindingSink sink = [&state](std::string_view line) { state.health.say(line); };
  CheckResult result;
  CO_TRY_VOID(co_await check_refcounts(state, Repair::kAll, result, sink, Deadline()));
  if (result.corruptions != 0 || result.check_errors != 0) {
    co_return make_error(ErrorKind::kCorrupt,
                         "The image was not closed cleanly and could not be repaired; run a check "
                         "with repair on it");
  }
  co_return co_await clear_bits(state, result);
}

}  // namespace calf::qcow2
