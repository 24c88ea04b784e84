// Counts of references: what is added in a run is what is added one by one, through every width of
// count and up to the limit.
#include "block/qcow2/references.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace calf::qcow2 {
namespace {

constexpr uint64_t kFarCluster = uint64_t{1} << 40;

TEST(References, ARunCountsLikeItsClusters) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (uint64_t limit : {uint64_t{1}, uint64_t{3}, uint64_t{255}, uint64_t{65535}, UINT64_MAX}) {
    References runs(limit, 1000);
    std::map<uint64_t, uint64_t> model;
    for (int step = 0; step < 200; ++step) {
      const uint64_t base = random() % 4 == 0 ? kFarCluster : 0;
      const uint64_t first = base + random() % 500;
      const uint64_t count = 1 + random() % 200;
      const uint64_t times = random() % 8 == 0 ? 1 + random() % 300 : 1;
      std::map<uint64_t, uint64_t> beyond, expected;
      runs.add_run(first, count, times, [&](uint64_t cluster, uint64_t n) { beyond[cluster] = n; });
      for (uint64_t cluster = first; cluster < first + count; ++cluster) {
        const uint64_t taken = std::min(times, limit - model[cluster]);
        model[cluster] += taken;
        if (taken < times) expected[cluster] = times - taken;
      }
      ASSERT_EQ(beyond, expected) << "limit " << limit << " step " << step;
    }
    for (const auto& [cluster, count] : model)
      ASSERT_EQ(runs.get(cluster), count) << "cluster " << cluster << " limit " << limit;
  }
}

TEST(References, FlagsOfARunStayInTheRun) {
  References references(65535, 1000);
  references.add_flag_run(60, 70, References::kCopiedSet);
  for (uint64_t cluster = 0; cluster < 200; ++cluster) {
    EXPECT_EQ(references.has_flag(cluster, References::kCopiedSet), cluster >= 60 && cluster < 130)
        << cluster;
  }
}

// A flag shares its byte with the count.
TEST(References, CountsAndFlagsLeaveEachOtherAlone) {
  References references(65535, 1000);
  for (uint32_t count = 1; count <= 300; ++count) {
    references.add(9, 1);
    if (count % 3 == 0) references.add_flag(9, References::kCopiedSet);
    if (count % 5 == 0) references.add_flag_run(8, 2, References::kUnreadable);
    ASSERT_EQ(references.get(9), count);
    ASSERT_EQ(references.get(8), 0u);
    ASSERT_EQ(references.has_flag(9, References::kCopiedSet), count >= 3);
    ASSERT_EQ(references.has_flag(9, References::kUnreadable), count >= 5);
    ASSERT_FALSE(references.has_flag(9, References::kCopiedClear));
    const auto bytes = references.find(0)->byte_counts();
    ASSERT_TRUE(!bytes || (*bytes)[9] == count);
  }
  references.clear(9);
  EXPECT_EQ(references.get(9), 0u);
  EXPECT_TRUE(references.has_flag(9, References::kCopiedSet));
}

TEST(References, ARefcountIsWhatWasCountedUnlessSaidOtherwise) {
  References references(65535, 1000);
  references.add(5, 300);
  references.add(6, 1);
  EXPECT_EQ(references.refcount(5), 300u);
  references.find(0)->set_refcount(6, UINT64_MAX);
  EXPECT_EQ(references.refcount(5), 300u);
  EXPECT_EQ(references.refcount(6), UINT32_MAX);
  EXPECT_EQ(references.get(6), 1u);
  EXPECT_EQ(references.refcount(kFarCluster), 0u);
}

TEST(References, ACopiedFlagIsWrongWhereTheRefcountIsNotOne) {
  for (uint64_t count : {uint64_t{1}, uint64_t{2}, uint64_t{300}}) {
    for (References::Flag flag : {References::kCopiedSet, References::kCopiedClear}) {
      References references(65535, 1000);
      references.add(7, count);
      references.add_flag(7, flag);
      const bool wrong = (flag == References::kCopiedSet) != (count == 1);
      EXPECT_EQ(references.find(0)->has_wrong_copied(), wrong) << count << " " << int{flag};
      // As the refcount in the file says, where that is something else.
      references.find(0)->set_refcount(7, count == 1 ? 2 : 1);
      EXPECT_EQ(references.find(0)->has_wrong_copied(), !wrong) << count << " " << int{flag};
    }
  }
}

TEST(References, APageThatWasClearedIsNotUsed) {
  References references(65535, 1000);
  references.add(3, 1);
  EXPECT_TRUE(references.find(0)->is_used());
  references.clear(3);
  EXPECT_FALSE(references.find(0)->is_used());
  references.add(3, 1000);
  references.clear(3);
  EXPECT_FALSE(references.find(0)->is_used());
  EXPECT_EQ(references.get(3), 0u);
}

}  // namespace
}  // namespace calf::qcow2
