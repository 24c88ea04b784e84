#include "block/qcow2/amend.h"

#include <bit>

#include "block/qcow2/census.h"
#include "block/qcow2/check.h"
#include "block/qcow2/image_state.h"
#include "block/qcow2/refcount_rebuild.h"
#include "block/qcow2/snapshot.h"
#include "block/qcow2/zero_expansion.h"

namespace calf::qcow2 {
namespace {

Error refused(std::string_view text) {
  return make_error(ErrorKind::kInvalid, "{}", text);
}

Result<void> check_downgrade(const Image::State& state, uint64_t refcount_bits) {
  const Header& header = state.header.get();
  if (header.has(format::kExternalData)) {
    return refused("Cannot downgrade an image with a data file");
  }
  if (header.compression != Compression::kZlib) {
    return refused("Cannot downgrade an image with zstd compression type");
  }
  const uint64_t left = header.incompatible & ~(format::kDirty | format::kCompressionType);
  if (left != 0) {
    return make_error(ErrorKind::kInvalid,
                      "Cannot downgrade an image with incompatible features {:#x} set", left);
  }
  if (refcount_bits != 16) return refused("compat=0.10 requires refcount_bits=16");
  if (header.find(format::kExtBitmaps) != nullptr) {
    return refused("Persistent bitmaps prevent downgrade of image; remove them first");
  }
  return {};
}

// Other programs take a version 2 image's snapshots to be as large as the disk. Not part of
// check_amend(): the size may be about to change.
Result<void> check_snapshots_fit(const Image::State& state) {
  for (const SnapshotInfo& snapshot : state.snapshots) {
    if (snapshot.disk_size != state.size || snapshot.vm_state_size > UINT32_MAX) {
      return refused("Internal snapshots prevent downgrade of image");
    }
  }
  return {};
}

Result<void> check_keys(const Image::State& state) {
  switch (state.header.get().encryption) {
    case Encryption::kNone:
      return refused("Can't amend encryption options - encryption not present");
    case Encryption::kAes:
      return refused("Only LUKS encryption options can be amended");
    case Encryption::kLuks:
      break;
  }
  return {};
}

// Everything in memory is in the file; from now on the file is changed past it.
Async<> leave(Image::State& state) {
  CO_TRY_VOID(state.check_writable());
  CO_TRY_VOID(co_await state.bitmaps.store());
  CO_TRY_VOID(co_await state.parts->write_back.finish());
  state.left_behind = true;
  co_return Result<void>();
}

Result<void> check_counts(References& references, const Geometry& g, uint64_t bits) {
  const uint64_t limit = bits == 64 ? UINT64_MAX : (uint64_t{1} << bits) - 1;
  for (uint64_t number : references.page_numbers()) {
    const References::Page* page = references.find(number);
    for (uint64_t i = 0; i < References::kPageClusters; ++i) {
      if (page->references(i) <= limit) continue;
      const uint64_t cluster = (number << References::kPageBits) + i;
      return make_error(ErrorKind::kInvalid,
                        "Cannot decrease refcount entry width to {} bits: Cluster at offset {:#x} "
                        "has a refcount of {}",
                        bits, cluster << g.cluster_bits, page->references(i));
    }
  }
  return {};
}

}  // namespace

Result<void> check_amend(Image& image, const AmendOptions& options) {
  const Image::State& state = image.state();
  TRY_VOID(state.check_writable());
  const unsigned version = options.version.value_or(state.geometry().version);
  const uint64_t bits = options.refcount_bits.value_or(state.geometry().refcount_bits());
  if (!is_power_of_two(bits) || bits > 64) {
    return refused("Refcount width must be a power of two and may not exceed 64 bits");
  }
  if (options.keys) TRY_VOID(check_keys(state));
  if (version < 3 && state.geometry().version >= 3) TRY_VOID(check_downgrade(state, bits));
  if (version < 3 && bits != 16) {
    return refused(
        "Refcount widths other than 16 bits require compatibility level 1.1 or above (use "
        "compat=1.1 or greater)");
  }
  if (version < 3 && options.lazy_refcounts.value_or(false)) {
    return refused(
        "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or "
        "greater)");
  }
  return {};
}

Async<> upgrade(Image& image) {
  Image::State& state = image.state();
  // Version 3 wants extra data in each entry, which version 2 allows.
  if (!state.snapshots.empty()) CO_TRY_VOID(co_await rewrite_snapshot_table(state));
  CO_TRY_VOID(co_await leave(state));
  std::function<void(Header&)> change = [](Header& header) {
    header.geometry.version = 3;
    header.geometry.refcount_order = 4;
  };
  co_return co_await state.header.rewrite(change);
}

Async<> downgrade(Image& image, const AmendProgress& progress) {
  Image::State& state = image.state();
  CO_TRY_VOID(check_downgrade(state, state.geometry().refcount_bits()));
  CO_TRY_VOID(check_snapshots_fit(state));
  CO_TRY_VOID(state.check_writable());
  CO_TRY_VOID(co_await expand_zero_clusters(state, progress));
  CO_TRY_VOID(co_await leave(state));
  std::function<void(Header&)> change = [](Header& header) {
    header.geometry.version = 2;
    header.incompatible = 0;
    header.compatible = 0;
    header.autoclear = 0;
    header.unknown_fields.clear();
    std::erase_if(header.extensions,
                  [](const Extension& e) { return e.type == format::kExtFeatureNames; });
  };
  co_return co_await state.header.rewrite(change);
}

Async<> set_refcount_bits(Image& image, uint64_t bits) {
  Image::State& state = image.state();
  CO_TRY_VOID(co_await leave(state));
  CheckResult found;
  const FindingSink sink = [](std::string_view) {};
  Census census(state, found, sink, false);
  CO_TRY_VOID(co_await census.run());
  if (found.corruptions != 0 || found.check_errors != 0) {
    co_return make_error(ErrorKind::kCorrupt,
                         "The image is damaged: repair it first (check -r all)");
  }
  CO_TRY_VOID(check_counts(census.references(), state.geometry(), bits));
  co_return co_await rebuild_refcount_structure(state, census.references(),
                                                static_cast<unsigned>(std::countr_zero(bits)));
}

Async<> give_back_leaks(Image& image) {
  const FindingSink sink = [](std::string_view) {};
  Result<CheckResult> done = co_await check(image, Repair::kLeaks, sink);
  CO_TRY(CheckResult result, std::move(done));
  if (result.corruptions == 0 && result.check_errors == 0) co_return Result<void>();
  co_return make_error(ErrorKind::kCorrupt, "The image is damaged: repair it (check -r all)");
}

Async<> set_lazy_refcounts(Image& image, bool on) {
  Image::State& state = image.state();
  // Refcounts are right and the dirty bit is clear before the switch goes off.
  CO_TRY_VOID(co_await state.parts->write_back.finish());
  std::function<void(Header&)> change = [on](Header& header) {
    header.compatible &= ~format::kLazyRefcounts;
    if (on) header.compatible |= format::kLazyRefcounts;
  };
  CO_TRY_VOID(co_await state.header.update(change));
  co_return co_await state.file.flush();
}

Async<> set_data_file_record(Image& image, std::optional<std::string> name, bool drop_raw) {
  if (name && name->size() > format::kMaxBackingName) co_return refused("Data file name too long");
  Image::State& state = image.state();
  CO_TRY_VOID(co_await leave(state));
  std::function<void(Header&)> change = [&name, drop_raw](Header& header) {
    if (drop_raw) header.autoclear &= ~format::kRawExternalData;
    if (!name) return;
    std::erase_if(header.extensions,
                  [](const Extension& e) { return e.type == format::kExtDataFileName; });
    if (!name->empty()) {
      header.extensions.push_back({format::kExtDataFileName, {name->begin(), name->end()}});
    }
  };
  co_return co_await state.header.rewrite(change);
}

}  // namespace calf::qcow2
