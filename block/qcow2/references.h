// References: per host cluster, how often it is referred to, and what its refcount says. In pages
// that exist only where something is referred to, so memory follows the tables in the file, not its
// apparent size. The way to a page is an index for as far as an honest file goes, and a map beyond.
//
//     page of 64 clusters     count and flags in a byte each ──> counts of 4 bytes each, once one
//                                                                goes beyond 31
//                             refcounts   only where one is not what was counted
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace calf::qcow2 {

class References {
 public:
  // Small, so that references scattered by a hostile file cost little each; no larger than the
  // smallest refcount block counts.
  static constexpr unsigned kPageBits = 6;
  static constexpr uint64_t kPageClusters = uint64_t{1} << kPageBits;

  // How an entry of an active table refers to the cluster; that its refcount cannot be read.
  enum Flag : uint8_t { kCopiedSet = 1, kCopiedClear = 2, kUnreadable = 4 };

  class Page {
   public:
    uint32_t references(uint64_t i) const { return wide_ ? wide_[i] : bytes_[i] >> kFlagBits; }
    bool is_used() const;
    uint32_t refcount(uint64_t i) const { return refcounts_ ? refcounts_[i] : references(i); }
    // Saturated: enough to tell 0, 1 and more.
    void set_refcount(uint64_t i, uint64_t refcount);
    uint8_t flags(uint64_t i) const { return bytes_[i] & kFlagMask; }
    // True if a flag says that an entry is wrong about whether its cluster is referred to once.
    bool has_wrong_copied() const;
    // The counts as bytes, unless one of them is too large.
    using ByteCounts = std::array<uint8_t, kPageClusters>;
    std::optional<ByteCounts> byte_counts() const;

   private:
    friend class References;
    using Counts = std::unique_ptr<uint32_t[]>;
    Counts copy_of_references() const;
    // All of [first, end) get `times` more if that is possible without a look at each.
    bool add_quickly(uint64_t first, uint64_t end, uint64_t times, uint32_t limit);

    static constexpr unsigned kFlagBits = 3;
    static constexpr uint8_t kFlagMask = (1 << kFlagBits) - 1;
    static constexpr uint8_t kMostInByte = UINT8_MAX >> kFlagBits;

    void set_byte_count(uint64_t i, uint32_t count) {
      bytes_[i] = static_cast<uint8_t>(count << kFlagBits | flags(i));
    }

    // Counts above flags. Of the counts nothing is said here where wide_ is set.
    uint8_t bytes_[kPageClusters] = {};
    Counts wide_;
    Counts refcounts_;
  };

  // Counts stop at `limit`, the largest refcount of the image, whose file has `clusters` clusters.
  References(uint64_t limit, uint64_t clusters)
      : limit_(limit < UINT32_MAX ? static_cast<uint32_t>(limit) : UINT32_MAX),
        near_(std::min((clusters >> kPageBits) + 1, kMaxNearPages)) {}

  // How much of `count` went beyond the limit.
  uint64_t add(uint64_t cluster, uint64_t count);
  // The same for clusters in a row; `overflow(cluster, beyond)` for each that went beyond.
  template <class Overflow>
  void add_run(uint64_t cluster, uint64_t clusters, uint64_t count, Overflow overflow) {
    for (const uint64_t end = cluster + clusters; cluster < end;) {
      const uint64_t stop = std::min(end, (cluster | (kPageClusters - 1)) + 1);
      const uint64_t in_page = cluster % kPageClusters;
      if (page(cluster).add_quickly(in_page, in_page + (stop - cluster), count, limit_)) {
        cluster = stop;
      }
      for (; cluster < stop; ++cluster)
        if (const uint64_t beyond = add(cluster, count); beyond != 0) overflow(cluster, beyond);
    }
  }
  void clear(uint64_t cluster);
  void add_flag(uint64_t cluster, Flag flag) {
    page(cluster).bytes_[cluster % kPageClusters] |= flag;
  }
  void add_flag_run(uint64_t cluster, uint64_t clusters, Flag flag);
  bool has_flag(uint64_t cluster, Flag flag) const {
    const Page* found = find(cluster >> kPageBits);
    return found != nullptr && (found->flags(cluster % kPageClusters) & flag) != 0;
  }
  uint32_t get(uint64_t cluster) const {
    const Page* found = find(cluster >> kPageBits);
    return found != nullptr ? found->references(cluster % kPageClusters) : 0;
  }
  // 0 too for clusters that nothing refers to.
  uint32_t refcount(uint64_t cluster) const {
    const Page* found = find(cluster >> kPageBits);
    return found != nullptr ? found->refcount(cluster % kPageClusters) : 0;
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

  Page& page(uint64_t cluster);

  uint32_t limit_;
  std::vector<std::unique_ptr<Page>> near_;
  std::unordered_map<uint64_t, std::unique_ptr<Page>> far_;
  uint64_t page_count_ = 0;
  // Neighbours are mostly asked for one after another.
  uint64_t last_number_ = 0;
  Page* last_ = nullptr;
};

}  // namespace calf::qcow2
