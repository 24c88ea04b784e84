#include "block/ops/compare.h"

#include <gtest/gtest.h>

#include "block/ops/measure.h"
#include "tests/block/test_files.h"
#include "tests/ops/memory_node.h"

namespace calf::ops {
namespace {

class CompareTest : public testing::Test {
 protected:
  void SetUp() override {
    executor_ = make_executor();
    a_ = std::make_unique<MemoryNode>(*executor_, 20 << 20);
    b_ = std::make_unique<MemoryNode>(*executor_, 20 << 20);
    for (MemoryNode* node : {a_.get(), b_.get()}) {
      for (size_t i = 3 << 20; i < 9 << 20; ++i)
        node->bytes()[i] = static_cast<uint8_t>(i);
    }
  }
  Result<CompareResult> run(CompareOptions options = {}) {
    return executor_->run(compare(*executor_, *a_, *b_, options, control_, &failure_));
  }

  std::unique_ptr<Executor> executor_;
  std::unique_ptr<MemoryNode> a_;
  std::unique_ptr<MemoryNode> b_;
  JobControl control_;
  CompareFailure failure_;
};

TEST_F(CompareTest, EqualImages) {
  EXPECT_EQ(run()->difference, Difference::kNone);
}

TEST_F(CompareTest, TheFirstDifferenceIsFoundWhereverItIs) {
  for (uint64_t at : {uint64_t{0}, uint64_t{511}, uint64_t{(3 << 20) - 1}, uint64_t{5555555},
                      uint64_t{(20 << 20) - 1}}) {
    ++b_->bytes()[at];
    ++b_->bytes()[(20 << 20) - 1];
    auto result = run();
    EXPECT_EQ(result->difference, Difference::kContent);
    EXPECT_EQ(result->offset, at / 512 * 512);
    --b_->bytes()[at];
    --b_->bytes()[(20 << 20) - 1];
  }
}

TEST_F(CompareTest, TheLongerOneMustEndInZeroes) {
  ASSERT_TRUE(executor_->run(b_->truncate(25 << 20, {})).ok());
  EXPECT_EQ(run()->difference, Difference::kNone);
  b_->bytes()[24 << 20] = 1;
  EXPECT_EQ(run()->offset, 24 << 20);
}

TEST_F(CompareTest, StrictLooksAtTheStatus) {
  // The same bytes, one of them known to be zero.
  a_->map_step = 20 << 20;
  EXPECT_EQ(run()->difference, Difference::kNone);
  auto result = run({.strict = true});
  EXPECT_EQ(result->difference, Difference::kStatus);
  EXPECT_EQ(result->offset, 0);
}

TEST_F(CompareTest, AReadErrorSaysWhichImage) {
  b_->bad_bytes = {4 << 20};
  ASSERT_FALSE(run().ok());
  EXPECT_EQ(failure_.image, 1);
  EXPECT_FALSE(failure_.status);
}

TEST(MeasureTest, GrowsWithTheOptions) {
  qcow2::CreateOptions options;
  options.size = uint64_t{1} << 30;
  EXPECT_EQ(measure_qcow2(options, 0)->required, 393216);
  EXPECT_EQ(measure_qcow2(options, 65536)->required, 458752);
  EXPECT_EQ(measure_qcow2(options, 0)->fully_allocated, 1074135040);
  options.extended_l2 = true;
  EXPECT_EQ(measure_qcow2(options, 0)->required, 524288);
  options.size = uint64_t{1} << 60;
  EXPECT_FALSE(measure_qcow2(options, 0).ok());
}

}  // namespace
}  // namespace calf::ops
