// WholeSectors: lets any byte range be read and written where only whole sectors can be, as in an
// encrypted disk or an export that takes blocks. The sectors at the ends of an unaligned write are
// read, changed and written back, one such request per sector at a time.
#pragma once

#include <cassert>

#include "block/io/range_lock.h"
#include "block/node.h"

namespace calf::block {

class WholeSectors {
 public:
  static constexpr uint64_t kSector = 512;
  static constexpr uint64_t kMaxSector = 4096;

  // What is below: gets multiples of a sector only.
  class Disk {
   public:
    virtual ~Disk() = default;
    virtual Async<> read_sectors(uint64_t offset, IoSlice to) = 0;
    virtual Async<> write_sectors(uint64_t offset, IoSlice from) = 0;
    virtual Async<> zero_sectors(ByteRange range, ZeroFlags flags) = 0;
  };

  // `disk` outlives the object. Its size is a multiple of a sector, or it reads zeroes behind its
  // end and grows when it is written there. `sector`: a power of two up to kMaxSector.
  WholeSectors(Executor& executor, Disk& disk, uint64_t sector = kSector)
      : disk_(disk), sector_(sector), busy_(executor) {
    assert(is_power_of_two(sector) && sector <= kMaxSector);
  }

  Async<> read(uint64_t offset, IoSlice to);
  Async<> write(uint64_t offset, IoSlice from);
  Async<> write_zeroes(ByteRange range, ZeroFlags flags);

  // The sectors that `range` touches, and those that it has whole (none: an empty range).
  ByteRange touched(ByteRange range) const;
  ByteRange whole(ByteRange range) const;

 private:
  Async<> write_parts(uint64_t offset, IoSlice from);
  Async<> zero_part(ByteRange range);

  Disk& disk_;
  uint64_t sector_;
  RangeLock busy_;
};

}  // namespace calf::block
