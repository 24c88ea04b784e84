#include "block/base/frame_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "block/base/task.h"

namespace calf {
namespace {

struct Block {
  void* at;
  size_t size;
};

std::vector<Block> take_all(const std::vector<size_t>& sizes) {
  std::vector<Block> blocks;
  for (size_t size : sizes) {
    blocks.push_back({FramePool::take(size), size});
    std::memset(blocks.back().at, 0xa5, size);
  }
  return blocks;
}

void give_all(const std::vector<Block>& blocks) {
  for (const Block& block : blocks)
    FramePool::give(block.at, block.size);
}

// On both sides of the borders between classes, and of what is pooled.
const std::vector<size_t> kSizes{1, 63, 64, 65, 128, 1000, 4032, 4033, 4095, 4096, 4097, 100000};

TEST(FramePool, BlocksInUseAreApartAndAligned) {
  for (int round = 0; round < 3; ++round) {
    std::vector<Block> blocks = take_all(kSizes);
    for (const Block& a : blocks) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(a.at) % alignof(std::max_align_t), 0U) << a.size;
      for (const Block& b : blocks) {
        if (a.at == b.at) continue;
        auto* begin = static_cast<uint8_t*>(a.at);
        auto* other = static_cast<uint8_t*>(b.at);
        EXPECT_TRUE(begin + a.size <= other || other + b.size <= begin) << a.size << ' ' << b.size;
      }
    }
    give_all(blocks);
  }
}

TEST(FramePool, MoreThanAClassKeepsGoBackToTheHeap) {
  for (int round = 0; round < 2; ++round)
    give_all(take_all(std::vector<size_t>(2 * FramePool::kKept, 200)));
}

TEST(FramePool, AnotherThreadMayGiveBack) {
  std::vector<Block> blocks = take_all(kSizes);
  std::vector<Block> theirs;
  std::thread other([&] {
    give_all(blocks);
    theirs = take_all(kSizes);  // outlives its thread
  });
  other.join();
  std::vector<Block> ours = take_all(kSizes);
  std::set<void*> all;
  for (const Block& block : theirs)
    all.insert(block.at);
  for (const Block& block : ours)
    all.insert(block.at);
  EXPECT_EQ(all.size(), theirs.size() + ours.size());
  give_all(theirs);
  give_all(ours);
}

Task<int> number(int n) {
  co_return n;
}

Task<int> sum_to(int n) {
  if (n == 0) co_return 0;
  int below = co_await sum_to(n - 1);
  co_return below + co_await number(n);
}

TEST(FramePool, CoroutinesRunInIt) {
  // Deeper than a class keeps, twice: the second time in used blocks.
  for (int round = 0; round < 2; ++round) {
    Task<int> task = sum_to(1000);
    EXPECT_FALSE(task.await_suspend(std::noop_coroutine()));
    EXPECT_EQ(task.await_resume(), 500500);
  }
}

}  // namespace
}  // namespace calf
