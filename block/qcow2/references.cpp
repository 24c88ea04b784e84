#include "block/qcow2/references.h"

namespace calf::qcow2 {

bool References::Page::is_used() const {
  const auto counted = [](uint32_t n) { return n != 0; };
  if (wide_) return std::any_of(wide_.get(), wide_.get() + kPageClusters, counted);
  return std::any_of(std::begin(bytes_), std::end(bytes_),
                     [](uint8_t byte) { return byte >> kFlagBits != 0; });
}

References::Page::Counts References::Page::copy_of_references() const {
  Counts out = std::make_unique<uint32_t[]>(kPageClusters);
  for (uint64_t i = 0; i < kPageClusters; ++i)
    out[i] = references(i);
  return out;
}

std::optional<References::Page::ByteCounts> References::Page::byte_counts() const {
  if (wide_) return std::nullopt;
  ByteCounts out;
  for (uint64_t i = 0; i < kPageClusters; ++i)
    out[i] = bytes_[i] >> kFlagBits;
  return out;
}

void References::Page::set_refcount(uint64_t i, uint64_t refcount) {
  const auto saturated = static_cast<uint32_t>(std::min<uint64_t>(refcount, UINT32_MAX));
  if (saturated == this->refcount(i)) return;
  if (!refcounts_) refcounts_ = copy_of_references();
  refcounts_[i] = saturated;
}

bool References::Page::has_wrong_copied() const {
  // Without a branch for each, as nearly all pages of nearly all images end here.
  uint8_t wrong = 0;
  if (!wide_ && !refcounts_) {
    for (uint64_t i = 0; i < kPageClusters; ++i) {
      const uint8_t bad = bytes_[i] >> kFlagBits == 1 ? kCopiedClear : kCopiedSet;
      wrong = static_cast<uint8_t>(wrong | (bytes_[i] & bad));
    }
    return wrong != 0;
  }
  for (uint64_t i = 0; i < kPageClusters; ++i) {
    const uint8_t bad = refcount(i) == 1 ? kCopiedClear : kCopiedSet;
    wrong = static_cast<uint8_t>(wrong | (flags(i) & bad));
  }
  return wrong != 0;
}

bool References::Page::add_quickly(uint64_t first, uint64_t end, uint64_t times, uint32_t limit) {
  const uint64_t most = std::min<uint64_t>(limit, kMostInByte);
  if (wide_ || times > most) return false;
  uint8_t top = 0;
  for (uint64_t i = first; i < end; ++i)
    top = std::max(top, bytes_[i]);
  if ((top >> kFlagBits) + times > most) return false;
  const auto more = static_cast<uint8_t>(times << kFlagBits);
  for (uint64_t i = first; i < end; ++i)
    bytes_[i] = static_cast<uint8_t>(bytes_[i] + more);
  return true;
}

uint64_t References::add(uint64_t cluster, uint64_t count) {
  Page& in = page(cluster);
  const uint64_t i = cluster % kPageClusters;
  const uint32_t had = in.references(i);
  const uint64_t taken = std::min<uint64_t>(count, limit_ - had);
  const auto now = static_cast<uint32_t>(had + taken);
  if (!in.wide_ && now > Page::kMostInByte) in.wide_ = in.copy_of_references();
  if (in.wide_) {
    in.wide_[i] = now;
  } else {
    in.set_byte_count(i, now);
  }
  return count - taken;
}

void References::clear(uint64_t cluster) {
  Page& in = page(cluster);
  in.set_byte_count(cluster % kPageClusters, 0);
  if (in.wide_) in.wide_[cluster % kPageClusters] = 0;
}

void References::add_flag_run(uint64_t cluster, uint64_t clusters, Flag flag) {
  for (const uint64_t end = cluster + clusters; cluster < end;) {
    const uint64_t stop = std::min(end, (cluster | (kPageClusters - 1)) + 1);
    Page& in = page(cluster);
    for (; cluster < stop; ++cluster)
      in.bytes_[cluster % kPageClusters] |= flag;
  }
}

References::Page& References::page(uint64_t cluster) {
  const uint64_t number = cluster >> kPageBits;
  if (number != last_number_ || last_ == nullptr) {
    std::unique_ptr<Page>& slot = number < near_.size() ? near_[number] : far_[number];
    if (!slot) {
      slot = std::make_unique<Page>();
      ++page_count_;
    }
    last_number_ = number;
    last_ = slot.get();
  }
  return *last_;
}

std::vector<uint64_t> References::page_numbers() const {
  std::vector<uint64_t> out;
  out.reserve(page_count_);
  for (uint64_t number = 0; number < near_.size(); ++number)
    if (near_[number]) out.push_back(number);
  const auto far_begin = static_cast<std::ptrdiff_t>(out.size());
  for (const auto& [number, page] : far_)
    out.push_back(number);
  std::sort(out.begin() + far_begin, out.end());
  return out;
}

}  // namespace calf::qcow2
