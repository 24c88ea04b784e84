// TableReader: reads a table whose entries have any length (snapshots, bitmaps).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "block/qcow2/host_file.h"

namespace calf::qcow2 {

// A table that is read piece by piece, as far as it turns out to reach.
class TableReader {
 public:
  TableReader(HostFile& file, uint64_t offset, uint64_t max_bytes)
      : file_(file), offset_(offset), limit_(max_bytes) {
    uint64_t left = file.size() > offset ? file.size() - offset : 0;
    limit_ = std::min(limit_, left);
  }

  // The next `length` bytes, or false if the table would exceed the limit or the file.
  Async<bool> take(size_t length, const uint8_t** out) {
    if (length > limit_ - used_) co_return false;
    if (used_ + length > bytes_.size()) {
      uint64_t had = bytes_.size();
      uint64_t want = std::min<uint64_t>(std::max<uint64_t>(used_ + length, had + 65536), limit_);
      bytes_.resize(want);
      CO_TRY_VOID(co_await file_.read_bytes(offset_ + had, std::span(bytes_).subspan(had)));
    }
    *out = bytes_.data() + used_;
    used_ += length;
    co_return true;
  }
  // Entries are padded; the last one's padding may be missing.
  void align() { used_ = std::min<uint64_t>(align_up(used_, 8), limit_); }
  uint64_t used() const { return used_; }

 private:
  HostFile& file_;
  uint64_t offset_;
  uint64_t limit_;
  uint64_t used_ = 0;
  std::vector<uint8_t> bytes_;
};

}  // namespace calf::qcow2
