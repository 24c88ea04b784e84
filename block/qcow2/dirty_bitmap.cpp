#include "block/qcow2/dirty_bitmap.h"

#include <algorithm>
#include <bit>

namespace calf::qcow2 {
namespace {

// Sets bits [first, end) of `bytes`.
void set_run(std::vector<uint8_t>& bytes, uint64_t first, uint64_t end) {
  for (; first < end && first % 8 != 0; ++first)
    bytes[first / 8] = static_cast<uint8_t>(bytes[first / 8] | 1u << first % 8);
  const uint64_t whole = first + (end - first) / 8 * 8;
  std::fill(bytes.begin() + static_cast<ptrdiff_t>(first / 8),
            bytes.begin() + static_cast<ptrdiff_t>(whole / 8), uint8_t{0xff});
  for (first = whole; first < end; ++first)
    bytes[first / 8] = static_cast<uint8_t>(bytes[first / 8] | 1u << first % 8);
}

bool bit_at(const std::vector<uint8_t>& bytes, uint64_t index) {
  return (bytes[index / 8] >> index % 8 & 1) != 0;
}

}  // namespace

void DirtyBitmap::set(ByteRange range) {
  if (range.empty()) return;
  set_bits(range.offset >> granularity_bits_, ((range.end() - 1) >> granularity_bits_) + 1);
}

void DirtyBitmap::set_bits(uint64_t first, uint64_t end) {
  end = std::min(end, bit_count());
  while (first < end) {
    const uint64_t number = first / page_bits();
    const uint64_t page_begin = number * page_bits();
    const uint64_t page_end = std::min(page_begin + page_bits(), end);
    set_in_page(number, first - page_begin, page_end - page_begin);
    first = page_end;
  }
}

void DirtyBitmap::set_in_page(uint64_t number, uint64_t first, uint64_t end) {
  Page& page = pages_[number];
  if (page.ones) return;
  const uint64_t bits = std::min(page_bits(), bit_count() - number * page_bits());
  if (first == 0 && end == bits) {
    page = {true, {}};
    return;
  }
  if (page.bytes.empty()) page.bytes.resize(page_bytes_);
  set_run(page.bytes, first, end);
}

bool DirtyBitmap::is_set(uint64_t offset) const {
  const uint64_t bit = offset >> granularity_bits_;
  auto it = pages_.find(bit / page_bits());
  if (it == pages_.end() || bit >= bit_count()) return false;
  return it->second.ones || bit_at(it->second.bytes, bit % page_bits());
}

void DirtyBitmap::load_page(uint64_t number, Page page) {
  pages_[number] = std::move(page);
  if (number + 1 == page_count()) trim();
}

void DirtyBitmap::trim() {
  pages_.erase(pages_.lower_bound(page_count()), pages_.end());
  if (page_count() == 0) return;
  auto last = pages_.find(page_count() - 1);
  if (last == pages_.end() || last->second.ones) return;
  std::vector<uint8_t>& bytes = last->second.bytes;
  uint64_t bit = bit_count() - (page_count() - 1) * page_bits();
  for (; bit % 8 != 0; ++bit)
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] & ~(1u << bit % 8));
  std::fill(bytes.begin() + static_cast<ptrdiff_t>(bit / 8), bytes.end(), uint8_t{0});
}

void DirtyBitmap::merge(const DirtyBitmap& other) {
  for (const auto& [number, page] : other.pages_) {
    const uint64_t begin = number * other.page_bits();
    const uint64_t bits = std::min(other.page_bits(), other.bit_count() - begin);
    for (uint64_t i = 0; i < bits;) {
      if (!page.ones && !bit_at(page.bytes, i)) {
        ++i;
        continue;
      }
      const uint64_t first = i;
      while (i < bits && (page.ones || bit_at(page.bytes, i)))
        i = page.ones ? bits : i + 1;
      const uint64_t from = (begin + first) << other.granularity_bits_;
      const uint64_t to = std::min((begin + i) << other.granularity_bits_, disk_size_);
      set({from, to - from});
    }
  }
}

void DirtyBitmap::resize(uint64_t disk_size) {
  if (!pages_.empty() && disk_size > disk_size_) {
    // A last page that is all ones is so as far as the old disk went.
    auto last = pages_.find(page_count() - 1);
    const uint64_t begin = (page_count() - 1) * page_bits();
    if (last != pages_.end() && last->second.ones && bit_count() - begin < page_bits()) {
      last->second = {false, std::vector<uint8_t>(page_bytes_)};
      set_run(last->second.bytes, 0, bit_count() - begin);
    }
  }
  disk_size_ = disk_size;
  trim();
}

}  // namespace calf::qcow2
