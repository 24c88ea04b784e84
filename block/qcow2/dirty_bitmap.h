// DirtyBitmap: which parts of a disk were changed, one bit for 2^granularity_bits bytes each.
//
//     disk    |  part 0  |  part 1  |  part 2  | …
//     bits      1          0          1             bit i is bit i % 8 of byte i / 8
//     pages   | as large as a cluster of the file: no page (all zeroes), all ones, or bytes |
//
// Only pages with a bit set take memory, and those that are all ones take none for their bits.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "block/base/byte_range.h"

namespace calf::qcow2 {

class DirtyBitmap {
 public:
  struct Page {
    // Every bit of the page that lies in the disk is set; `bytes` is empty.
    bool ones = false;
    std::vector<uint8_t> bytes;
  };

  DirtyBitmap(uint64_t disk_size, unsigned granularity_bits, uint64_t page_bytes)
      : disk_size_(disk_size), granularity_bits_(granularity_bits), page_bytes_(page_bytes) {}

  uint64_t disk_size() const { return disk_size_; }
  uint64_t bit_count() const { return div_round_up(disk_size_, uint64_t{1} << granularity_bits_); }
  // Pages that the whole bitmap has.
  uint64_t page_count() const { return div_round_up(div_round_up(bit_count(), 8), page_bytes_); }
  bool empty() const { return pages_.empty(); }
  // By number.
  const std::map<uint64_t, Page>& pages() const { return pages_; }

  // Sets the bits of all parts that `range` (inside the disk) touches.
  void set(ByteRange range);
  bool is_set(uint64_t offset) const;
  void clear() { pages_.clear(); }
  // Takes a page as a file has it; bits behind the end of the disk are dropped.
  void load_page(uint64_t number, Page page);
  // Sets what is set in `other`, which is of a disk of the same size.
  void merge(const DirtyBitmap& other);
  // What is cut off is forgotten; what is added is clean.
  void resize(uint64_t disk_size);

 private:
  uint64_t page_bits() const { return page_bytes_ * 8; }
  void set_bits(uint64_t first, uint64_t end);
  void set_in_page(uint64_t number, uint64_t first, uint64_t end);
  // Clears the bits of the last page that have no part of the disk.
  void trim();

  uint64_t disk_size_;
  unsigned granularity_bits_;
  uint64_t page_bytes_;
  std::map<uint64_t, Page> pages_;
};

}  // namespace calf::qcow2
