#include "block/ops/bitmaps.h"

#include <algorithm>
#include <bit>

#include "block/qcow2/bitmap_store.h"
#include "block/qcow2/image.h"

namespace calf::ops {
namespace {

constexpr uint64_t kMinGranularity = 512;
constexpr uint64_t kMaxGranularity = uint64_t{1} << 31;

Result<unsigned> granularity_bits(const block::Node& node, uint64_t granularity) {
  if (granularity == 0) {
    const uint64_t cluster = node.limits().cluster_size;
    granularity = std::clamp<uint64_t>(cluster, 4096, 65536);
  }
  if (!is_power_of_two(granularity) || granularity < kMinGranularity ||
      granularity > kMaxGranularity) {
    return make_error(ErrorKind::kInvalid, "Granularity must be power of 2 and at least 512");
  }
  return static_cast<unsigned>(std::countr_zero(granularity));
}

// Of formats that have bitmaps.
qcow2::BitmapStore* store_of(block::Node& node) {
  auto* image = dynamic_cast<qcow2::Image*>(&node);
  return image != nullptr ? &image->bitmaps() : nullptr;
}

}  // namespace

Async<> change_bitmap(block::Node& node, BitmapRequest request) {
  qcow2::BitmapStore* store = store_of(node);
  if (request.action == BitmapAction::kAdd) {
    CO_TRY(unsigned bits, granularity_bits(node, request.granularity));
    if (store == nullptr) {
      co_return make_error(ErrorKind::kUnsupported,
                           "Can't store persistent bitmaps to {}: Operation not supported",
                           node.name());
    }
    co_return store->add(request.name, bits);
  }
  if (store == nullptr) {
    co_return make_error(ErrorKind::kNotFound, "Dirty bitmap '{}' not found", request.name);
  }
  switch (request.action) {
    case BitmapAction::kAdd:
      break;
    case BitmapAction::kRemove:
      co_return co_await store->remove(request.name);
    case BitmapAction::kClear:
      co_return co_await store->clear(request.name);
    case BitmapAction::kEnable:
      co_return co_await store->set_recording(request.name, true);
    case BitmapAction::kDisable:
      co_return co_await store->set_recording(request.name, false);
    case BitmapAction::kMerge: {
      qcow2::BitmapStore* from = request.source_node ? store_of(*request.source_node) : store;
      if (from == nullptr) {
        co_return make_error(ErrorKind::kNotFound, "Dirty bitmap '{}' not found", request.source);
      }
      // The target's state is complained about first.
      CO_TRY(const qcow2::DirtyBitmap* target, co_await store->bits(request.name));
      CO_TRY(const qcow2::DirtyBitmap* source, co_await from->bits(request.source));
      (void)target;
      co_return co_await store->merge(request.name, source);
    }
  }
  co_return Result<void>();
}

bool supports_bitmaps(const block::Node& node) {
  auto* image = dynamic_cast<const qcow2::Image*>(&node);
  return image != nullptr && image->info().version >= 3;
}

Async<> check_bitmaps(block::Node& source, std::function<void(std::string_view name)> skipped) {
  qcow2::BitmapStore* store = store_of(source);
  if (store == nullptr) {
    co_return make_error(ErrorKind::kUnsupported, "Source lacks bitmap support");
  }
  // Last ones first, as qemu-img does.
  std::vector<qcow2::BitmapInfo> bitmaps = store->infos();
  for (auto it = bitmaps.rbegin(); it != bitmaps.rend(); ++it) {
    if (!it->in_use) continue;
    if (!skipped) {
      co_return make_error(ErrorKind::kCorrupt,
                           "Cannot copy inconsistent bitmap '{}'\n"
                           "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete "
                           "it",
                           it->name);
    }
    skipped(it->name);
  }
  co_return Result<void>();
}

Async<> copy_bitmaps(block::Node& source, block::Node& target) {
  qcow2::BitmapStore* from = store_of(source);
  qcow2::BitmapStore* to = store_of(target);
  if (from == nullptr || to == nullptr) {
    co_return make_error(ErrorKind::kUnsupported, "Source lacks bitmap support");
  }
  for (const qcow2::BitmapInfo& bitmap : from->infos()) {
    if (bitmap.in_use) continue;
    Result<void> added = to->add(bitmap.name, bitmap.granularity_bits);
    if (!added.ok()) {
      co_return std::move(added.error())
          .with_context(fmt::format("Failed to create bitmap {}", bitmap.name));
    }
    CO_TRY(const qcow2::DirtyBitmap* bits, co_await from->bits(bitmap.name));
    CO_TRY_VOID(co_await to->merge(bitmap.name, bits));
    CO_TRY_VOID(co_await to->set_recording(bitmap.name, bitmap.automatic));
  }
  co_return Result<void>();
}

}  // namespace calf::ops
