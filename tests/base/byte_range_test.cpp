#include "block/base/byte_range.h"

#include <gtest/gtest.h>

namespace calf {
namespace {

TEST(ByteRange, RefusesWrapAround) {
  EXPECT_FALSE(make_range(UINT64_MAX, 1).has_value());
  EXPECT_TRUE(make_range(UINT64_MAX, 0).has_value());
  EXPECT_EQ(make_range(4, 8)->end(), 12u);
}

TEST(ByteRange, IntersectsAndOverlaps) {
  ByteRange a{10, 10};
  EXPECT_TRUE(a.overlaps({19, 1}));
  EXPECT_FALSE(a.overlaps({20, 1}));
  EXPECT_FALSE(a.overlaps({0, 10}));
  EXPECT_EQ(a.intersect({15, 100}), (ByteRange{15, 5}));
  EXPECT_TRUE(a.intersect({30, 5}).empty());
  EXPECT_TRUE(a.contains(ByteRange{10, 10}));
  EXPECT_FALSE(a.contains(ByteRange{10, 11}));
}

TEST(ByteRange, DividesAndAligns) {
  EXPECT_EQ(div_round_up(UINT64_MAX, 512), (uint64_t{1} << 55));
  EXPECT_EQ(align_up(513, 512), 1024u);
  EXPECT_EQ(align_down(1023, 512), 512u);
}

}  // namespace
}  // namespace calf
