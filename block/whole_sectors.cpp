#include "block/whole_sectors.h"

#include <algorithm>
#include <array>

#include "block/io/aligned_buffer.h"

namespace calf::block {

ByteRange WholeSectors::touched(ByteRange range) const {
  const uint64_t begin = align_down(range.offset, sector_);
  return {begin, align_up(range.end(), sector_) - begin};
}

ByteRange WholeSectors::whole(ByteRange range) const {
  const uint64_t begin = std::min(align_up(range.offset, sector_), range.end());
  const uint64_t end = std::max(align_down(range.end(), sector_), begin);
  return {begin, end - begin};
}

Async<> WholeSectors::read(uint64_t offset, IoSlice to) {
  if (to.empty()) co_return Result<void>();
  const ByteRange sectors = touched({offset, to.size()});
  if (sectors.length == to.size()) co_return co_await disk_.read_sectors(offset, to);
  AlignedBuffer bounce(sectors.length);
  FlatIo io(bounce.span());
  CO_TRY_VOID(co_await disk_.read_sectors(sectors.offset, io.slice()));
  to.copy_from(std::span<const uint8_t>(bounce.data() + (offset - sectors.offset), to.size()));
  co_return Result<void>();
}

Async<> WholeSectors::write(uint64_t offset, IoSlice from) {
  if (from.empty()) co_return Result<void>();
  const ByteRange sectors = touched({offset, from.size()});
  const bool whole = sectors.length == from.size();
  RangeLock::Holder hold(busy_, sectors,
                         whole ? RangeLock::Mode::kShared : RangeLock::Mode::kExclusive);
  co_await hold.acquire();
  if (whole) co_return co_await disk_.write_sectors(offset, from);
  co_return co_await write_parts(offset, from);
}

// The caller holds the sectors exclusively.
Async<> WholeSectors::write_parts(uint64_t offset, IoSlice from) {
  const ByteRange sectors = touched({offset, from.size()});
  AlignedBuffer bounce(sectors.length);
  FlatIo first(bounce.span().first(sector_));
  CO_TRY_VOID(co_await disk_.read_sectors(sectors.offset, first.slice()));
  if (sectors.length > sector_) {
    FlatIo last(bounce.span().last(sector_));
    CO_TRY_VOID(co_await disk_.read_sectors(sectors.end() - sector_, last.slice()));
  }
  from.copy_to(bounce.span().subspan(offset - sectors.offset, from.size()));
  FlatIo all(std::span<const uint8_t>(bounce.span()));
  co_return co_await disk_.write_sectors(sectors.offset, all.slice());
}

Async<> WholeSectors::write_zeroes(ByteRange range, ZeroFlags flags) {
  const ByteRange middle = whole(range);
  const ByteRange head{range.offset, middle.offset - range.offset};
  const ByteRange tail{middle.end(), range.end() - middle.end()};
  CO_TRY_VOID(co_await zero_part(head));
  if (!middle.empty()) {
    RangeLock::Holder hold(busy_, middle, RangeLock::Mode::kShared);
    co_await hold.acquire();
    CO_TRY_VOID(co_await disk_.zero_sectors(middle, flags));
  }
  co_return co_await zero_part(tail);
}

// Less than a sector, or two neighbouring parts of sectors.
Async<> WholeSectors::zero_part(ByteRange range) {
  static constexpr std::array<uint8_t, 2 * kMaxSector> kZeroes{};
  if (range.empty()) co_return Result<void>();
  FlatIo io(std::span<const uint8_t>(kZeroes).first(range.length));
  co_return co_await write(range.offset, io.slice());
}

}  // namespace calf::block
