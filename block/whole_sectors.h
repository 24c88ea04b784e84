// WholeSectors: lets any byte range be read and written where only whole sectors can be, as in an
// encrypted disk. The sectors at the ends of an unaligned write are read, changed and written back,
// one such request per sector at a time.
#pragma once

#include "block/io/range_lock.h"
#include "block/node.h"

namespace calf::block {

class WholeSectors {
 public:
  static constexpr uint64_t kSector = 512;

  // What is below: gets multiples of a sector only.
  class Disk {
   public:
    virtual ~Disk() = default;
    virtual Async<> read_sectors(uint64_t offset, IoSlice to) = 0;
    virtual Async<> write_sectors(uint64_t offset, IoSlice from) = 0;
    virtual Async<> zero_sectors(ByteRange range, ZeroFlags flags) = 0;
  };

  // `disk` outlives the object. Its size is a multiple of a sector.
  WholeSectors(Executor& executor, Disk& disk) : disk_(disk), busy_(executor) {}

  Async<> read(uint64_t offset, IoSlice to);
  Async<> write(uint64_t offset, IoSlice from);
  Async<> write_zeroes(ByteRange range, ZeroFlags flags);

 private:
  Async<> write_parts(uint64_t offset, IoSlice from);
  Async<> zero_part(ByteRange range);

  Disk& disk_;
  RangeLock busy_;
};

}  // namespace calf::block
