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
  // What is taken counts against `max_bytes`, what is skipped does not.
  TableReader(HostFile& file, uint64_t offset, uint64_t max_bytes)
      : file_(file), begin_(offset), left_(max_bytes), at_(offset) {}

  // The next `length` bytes, valid until the next call, or false if the table would exceed the
  // limit or the file.
  Async<bool> take(size_t length, const uint8_t** out) {
    if (at_ > file_.size() || length > file_.size() - at_) co_return false;
    co_return co_await take_padded(length, out);
  }
  // The same with zeroes for what lies behind the end of the file.
  Async<bool> take_padded(size_t length, const uint8_t** out) {
    if (length > left_) co_return false;
    if (at_ < bytes_begin_ || at_ + length > bytes_begin_ + bytes_.size()) {
      const uint64_t in_file = file_.size() - std::min(at_, file_.size());
      bytes_.assign(std::max<uint64_t>(length, std::min(kReadAhead, in_file)), 0);
      bytes_begin_ = at_;
      CO_TRY_VOID(co_await file_.read_bytes(at_, bytes_));
    }
    *out = bytes_.data() + (at_ - bytes_begin_);
    at_ += length;
    left_ -= length;
    co_return true;
  }
  // Bytes that are nobody's.
  void skip(uint32_t length) { at_ += length; }
  // Entries are padded; the last one's padding may be missing.
  void align() {
    const uint64_t padding = std::min(align_up(at_ - begin_, 8) - (at_ - begin_), left_);
    at_ += padding;
    left_ -= padding;
  }
  // How far the table reaches, with what was skipped.
  uint64_t used() const { return at_ - begin_; }

 private:
  static constexpr uint64_t kReadAhead = 65536;

  HostFile& file_;
  uint64_t begin_;
  uint64_t left_;
  // Where the next byte stands in the file.
  uint64_t at_;
  // What was read, and where it stands.
  uint64_t bytes_begin_ = 0;
  std::vector<uint8_t> bytes_;
};

}  // namespace calf::qcow2
