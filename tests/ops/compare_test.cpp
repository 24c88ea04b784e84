#include "block/ops/compare.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "block/file_node.h"
#include "block/ops/host_compare.h"
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

// Several parts are under way: what is told is what comes first on the disk, not in time.
TEST_F(CompareTest, WhatComesFirstIsTold) {
  b_->bad_bytes = {(5 << 20) + 100000};
  ++b_->bytes()[5 << 20];
  EXPECT_EQ(run()->offset, 5 << 20);
  --b_->bytes()[5 << 20];
  ++b_->bytes()[(5 << 20) + 300000];
  EXPECT_FALSE(run().ok());
  EXPECT_EQ(failure_.image, 1);
  EXPECT_LE(failure_.offset, (5 << 20) + 100000);
}

TEST_F(CompareTest, AStatusDoesNotOvertakeADifference) {
  ++b_->bytes()[(9 << 20) - 1];
  std::fill_n(b_->bytes().begin() + (9 << 20), 65536, uint8_t{1});
  auto result = run({.strict = true});
  EXPECT_EQ(result->difference, Difference::kContent);
  EXPECT_EQ(result->offset, (9 << 20) - 512);
}

// Files of this host, which other threads compare.
class HostCompareTest : public testing::Test {
 protected:
  static constexpr size_t kSize = (9 << 20) + 4096;

  Fd open(const std::string& name) {
    Fd fd(::open(folder_.file(name).c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(fd.valid());
    return fd;
  }
  HostComparison compare_files(uint64_t length) {
    Fd a = open("a");
    Fd b = open("b");
    const block::HostBytes files[] = {{a.get(), 0}, {b.get(), 0}};
    std::vector<uint8_t> buffer(65536);
    return compare_on_host(files, length, buffer);
  }
  Result<CompareResult> compare_nodes() {
    CompareFailure failure;
    auto a = executor_->run(block::FileNode::open(*executor_, folder_.file("a"), {}));
    auto b = executor_->run(block::FileNode::open(*executor_, folder_.file("b"), {}));
    return executor_->run(compare(*executor_, **a, **b, {}, {}, &failure));
  }
  void write(const std::string& a, const std::string& b) {
    folder_.write("a", a);
    folder_.write("b", b);
  }

  TestFolder folder_;
  std::unique_ptr<Executor> executor_ = make_executor();
};

TEST_F(HostCompareTest, FindsTheFirstDifference) {
  const std::string bytes(kSize, 'x');
  write(bytes, bytes);
  EXPECT_TRUE(compare_files(kSize).complete);
  EXPECT_FALSE(compare_files(kSize).where);
  EXPECT_EQ(compare_nodes()->difference, Difference::kNone);
  for (size_t at : {size_t{0}, size_t{32768}, size_t{(5 << 20) + 777}, kSize - 1}) {
    std::string other = bytes;
    other[at] = 'y';
    other[kSize - 1] = 'y';
    write(bytes, other);
    EXPECT_EQ(compare_files(kSize).where, at / 512 * 512);
    EXPECT_EQ(compare_nodes()->offset, at / 512 * 512);
  }
}

TEST_F(HostCompareTest, ComparesWithZeroes) {
  std::string bytes(kSize, '\0');
  write(bytes, "");
  const Fd a = open("a");
  const block::HostBytes file[] = {{a.get(), 0}};
  std::vector<uint8_t> buffer(65536);
  EXPECT_FALSE(compare_on_host(file, kSize, buffer).where);
  bytes[kSize - 1] = 1;
  write(bytes, "");
  EXPECT_EQ(compare_on_host(file, kSize, buffer).where, kSize - 512);
  EXPECT_EQ(compare_nodes()->offset, kSize - 512);
}

TEST_F(HostCompareTest, AFileThatEndsTooEarlySaysNothing) {
  write(std::string(kSize, 'x'), std::string(kSize - 512, 'x'));
  EXPECT_FALSE(compare_files(kSize).complete);
  EXPECT_EQ(compare_nodes()->offset, kSize - 512);
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
