#include "block/qcow2/l1.h"

#include <algorithm>

#include "block/base/endian.h"

namespace calf::qcow2 {

Async<> L1Table::load(HostFile& file, uint64_t offset, uint64_t entries) {
  std::vector<be64> raw(entries);
  std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(raw.data()), raw.size() * sizeof(be64));
  CO_TRY_VOID(co_await file.read_bytes(offset, bytes));
  offset_ = offset;
  entries_.assign(raw.begin(), raw.end());
  verified_.assign(entries, false);
  co_return Result<void>();
}

std::vector<L1Table::Write> L1Table::collect() {
  std::vector<Write> out;
  for (uint64_t block : dirty_) {
    uint64_t first = block * kBlockEntries;
    uint64_t count = std::min(kBlockEntries, entries_.size() - first);
    Write write{offset_ + first * 8, std::vector<uint8_t>(count * 8), block};
    auto* raw = reinterpret_cast<be64*>(write.bytes.data());
    std::copy_n(entries_.begin() + static_cast<ptrdiff_t>(first), count, raw);
    out.push_back(std::move(write));
  }
  dirty_.clear();
  return out;
}

void L1Table::restore(const std::vector<Write>& writes) {
  for (const Write& write : writes)
    dirty_.insert(write.block);
}

std::vector<uint8_t> L1Table::to_bytes(uint64_t entries) const {
  std::vector<uint8_t> out(entries * 8);
  std::copy(entries_.begin(), entries_.end(), reinterpret_cast<be64*>(out.data()));
  return out;
}

void L1Table::move_to(uint64_t offset, uint64_t entries) {
  offset_ = offset;
  entries_.resize(entries);
  verified_.resize(entries);
  for (uint64_t block = 0; block * kBlockEntries < entries; ++block)
    dirty_.insert(block);
}

void L1Table::replace(uint64_t offset, std::vector<uint64_t> entries) {
  offset_ = offset;
  entries_ = std::move(entries);
  verified_.assign(entries_.size(), false);
  dirty_.clear();
}

}  // namespace calf::qcow2
