// References: per host cluster, how often it is referred to, and what its refcount says. In pages
// that exist only where something is referred to, so memory follows the tables in the file, not its
// apparent size. The way to a page is an index for as far as an honest file goes, and a map beyond.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

namespace calf::qcow2 {

class References {
 public:
  // Small, so that references scattered by a hostile file cost little each.
  static constexpr unsigned kPageBits = 4;
  static constexpr uint64_t kPageClusters = uint64_t{1} << kPageBits;

  // How an entry of an active table refers to the cluster; that its refcount cannot be read.
  enum Flag : uint8_t { kCopiedSet = 1, kCopiedClear = 2, kUnreadable = 4 };

  struct Page {
    uint32_t references[kPageClusters] = {};
    // Saturated: enough to tell 0, 1 and more.
    uint32_t refcounts[kPageClusters] = {};
    uint8_t flags[kPageClusters] = {};
  };

  // Counts stop at `limit`, the largest refcount of the image, whose file has `clusters` clusters.
  References(uint64_t limit, uint64_t clusters)
      : limit_(limit < UINT32_MAX ? static_cast<uint32_t>(limit) : UINT32_MAX),
        near_(std::min((clusters >> kPageBits) + 1, kMaxNearPages)) {}

  // How much of `count` went beyond the limit.
  uint64_t add(uint64_t cluster, uint64_t count) {
    uint32_t& n = page(cluster).references[cluster % kPageClusters];
    const uint64_t taken = std::min<uint64_t>(count, limit_ - n);
    n += static_cast<uint32_t>(taken);
    return count - taken;
  }
  void clear(uint64_t cluster) { page(cluster).references[cluster % kPageClusters] = 0; }
  void add_flag(uint64_t cluster, Flag flag) {
    page(cluster).flags[cluster % kPageClusters] |= flag;
  }
  bool has_flag(uint64_t cluster, Flag flag) const {
    const Page* found = find(cluster >> kPageBits);
    return found != nullptr && (found->flags[cluster % kPageClusters] & flag) != 0;
  }
  uint32_t get(uint64_t cluster) const {
    const Page* found = find(cluster >> kPageBits);
    return found != nullptr ? found->references[cluster % kPageClusters] : 0;
  }
  // 0 too for clusters that nothing refers to.
  uint32_t refcount(uint64_t cluster) const {
    const Page* found = find(cluster >> kPageBits);
    return found != nullptr ? found->refcounts[cluster % kPageClusters] : 0;
  }
  Page* find(uint64_t page_number) {
    return const_cast<Page*>(std::as_const(*this).find(page_number));
  }
  const Page* find(uint64_t page_number) const {
    if (page_number < near_.size()) return near_[page_number].get();
    auto it = far_.find(page_number);
    return it != far_.end() ? it->second.get() : nullptr;
  }
  uint64_t page_count() const { return page_count_; }
  // Numbers of all pages, ascending.
  std::vector<uint64_t> page_numbers() const;

 private:
  // 8 MiB of pointers.
  static constexpr uint64_t kMaxNearPages = uint64_t{1} << 20;

  Page& page(uint64_t cluster) {
    uint64_t number = cluster >> kPageBits;
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

  uint32_t limit_;
  std::vector<std::unique_ptr<Page>> near_;
  std::unordered_map<uint64_t, std::unique_ptr<Page>> far_;
  uint64_t page_count_ = 0;
  // Neighbours are mostly asked for one after another.
  uint64_t last_number_ = 0;
  Page* last_ = nullptr;
};

}  // namespace calf::qcow2
