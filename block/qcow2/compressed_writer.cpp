// Writing compressed clusters, for conversions. Compression runs on the offload pool and out of any
// lock; what comes out is packed behind the previous compressed cluster.
#include <algorithm>

#include "block/io/aligned_buffer.h"
#include "block/qcow2/image_state.h"

namespace calf::qcow2 {
namespace {

struct Packed {
  AlignedBuffer bytes;
  // 0: the cluster does not shrink.
  size_t length = 0;
};

Async<Packed> pack(Image::State& state, IoSlice from) {
  const uint64_t size = state.geometry().cluster_size();
  Packed packed;
  packed.bytes = AlignedBuffer(size - 1);
  AlignedBuffer cluster(size);
  from.copy_to(cluster.span().first(from.size()));
  std::ranges::fill(cluster.span().subspan(from.size()), uint8_t{0});
  Codec* codec = &state.parts->codec;
  Packed* out = &packed;
  const std::span<const uint8_t> in = cluster.span();
  auto work = [codec, in, out] {
    if (std::optional<size_t> n = codec->compress(in, out->bytes.span())) out->length = *n;
  };
  co_await state.executor.offload_batched(work);
  co_return packed;
}

}  // namespace

Async<> write_guest_compressed(Image::State& state, uint64_t offset, IoSlice from) {
  // A data file holds plain clusters only.
  if (state.geometry().external_data) co_return Error::from_errno(ENOTSUP);
  CO_TRY(Packed packed, co_await pack(state, from));
  if (packed.length == 0) co_return co_await write_guest(state, offset, from);

  Parts& parts = *state.parts;
  ByteRange range{offset, from.size()};
  RangeLock::Holder hold(parts.clusters, state.clusters_of(range), RangeLock::Mode::kExclusive);
  co_await hold.acquire();
  CO_TRY_VOID(co_await parts.write_back.before_change());
  CO_TRY(L2View view, co_await parts.mapping.writable_view(offset));
  if (parts.mapping.entry(view, 0).kind == ClusterKind::kInvalid) {
    co_return parts.mapping.invalid_entry(view, 0, true);
  }
  CO_TRY(uint64_t place, co_await parts.allocator.allocate_bytes(packed.length));
  std::span<const uint8_t> bytes = packed.bytes.span().first(packed.length);
  Result<void> written = co_await state.file.write_bytes(place, bytes);
  if (written.ok()) written = state.check_writable();
  if (!written.ok()) {
    ByteRange used{place, packed.length};
    co_await parts.allocator.undo(used);
    co_return std::move(written.error());
  }
  L2Entry old = parts.mapping.entry(view, 0);
  parts.mapping.set(view, 0, L2Entry::compressed(place, packed.length));
  release(state, old, false);
  co_return Result<void>();
}

}  // namespace calf::qcow2
