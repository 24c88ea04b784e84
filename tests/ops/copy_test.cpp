#include "block/ops/copy.h"

#include "block/host_copy.h"
#include "block/ops/concat_node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <climits>
#include <cstring>
#include <random>

#include "tests/block/test_files.h"
#include "tests/ops/memory_node.h"

namespace calf::ops {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class CopyTest : public testing::Test {
 protected:
  static constexpr size_t kSize = (4 << 20) + 1536;

  void SetUp() override {
    executor_ = make_executor();
    source_ = std::make_unique<MemoryNode>(*executor_, kSize);
    target_ = std::make_unique<MemoryNode>(*executor_, kSize);
    control_.progress = [this](uint64_t done, uint64_t total) {
      EXPECT_LE(done, total);
      EXPECT_GE(done, progress_);
      progress_ = done;
    };
    control_.warning = [this](std::string_view line) { warnings_.emplace_back(line); };
  }
  // Runs of data and of zeroes of all sizes.
  void fill_source(unsigned seed) {
    std::mt19937 random(seed);
    size_t at = 0;
    while (at < kSize) {
      size_t run = std::min<size_t>(1 + random() % (random() % 4 == 0 ? 300000 : 9000), kSize - at);
      int value = random() % 2 == 0 ? 0 : static_cast<int>(1 + random() % 255);
      std::memset(source_->bytes().data() + at, value, run);
      at += run;
    }
  }
  Result<void> copy_all(const CopyOptions& options) {
    progress_ = 0;
    return executor_->run(copy(*executor_, *source_, kSize, *target_, options, control_));
  }

  std::unique_ptr<Executor> executor_;
  std::unique_ptr<MemoryNode> source_;
  std::unique_ptr<MemoryNode> target_;
  JobControl control_;
  uint64_t progress_ = 0;
  std::vector<std::string> warnings_;
};

// Pretends to stand in a file of the host.
class HostMemoryNode final : public MemoryNode, public block::HostCopy {
 public:
  using MemoryNode::MemoryNode;
  // Whose bytes copy_in() takes.
  MemoryNode* source = nullptr;
  // This call of copy_in() and all later ones fail, with half of the range copied.
  unsigned fails_from = UINT_MAX;
  int error = EXDEV;
  unsigned calls = 0;

  std::optional<block::HostBytes> host_bytes(uint64_t offset) override {
    return block::HostBytes{-1, offset};
  }
  Async<> copy_in(ByteRange range, block::HostBytes from) override {
    const bool fail = ++calls >= fails_from;
    const uint64_t length = fail ? range.length / 2 : range.length;
    std::memcpy(bytes().data() + range.offset, source->bytes().data() + from.offset, length);
    if (fail) co_return Error::from_errno(error);
    co_return Result<void>();
  }
};

class OffloadTest : public CopyTest {
 protected:
  void SetUp() override {
    CopyTest::SetUp();
    source_ = std::make_unique<HostMemoryNode>(*executor_, kSize);
    auto target = std::make_unique<HostMemoryNode>(*executor_, kSize);
    host_target_ = target.get();
    host_target_->source = source_.get();
    target_ = std::move(target);
    fill_source(11);
    options_.offload = true;
    options_.target_is_zero = true;
  }
  HostMemoryNode* host_target_ = nullptr;
  CopyOptions options_;
};

TEST_F(OffloadTest, TheKernelCopiesAllData) {
  // Whatever is read or written by us fails.
  for (size_t at = 0; at < kSize; at += 512) {
    source_->bad_bytes.insert(at);
    target_->bad_bytes.insert(at);
  }
  auto copied = copy_all(options_);
  ASSERT_TRUE(copied.ok()) << copied.error().message();
  EXPECT_EQ(source_->bytes(), target_->bytes());
  EXPECT_GT(host_target_->calls, 1U);
  EXPECT_EQ(progress_, kSize);
}

TEST_F(OffloadTest, WhereTheKernelCannotWeDo) {
  for (int error : {EXDEV, EOPNOTSUPP, EINVAL, ENODATA}) {
    for (unsigned first : {1U, 3U}) {
      std::fill(target_->bytes().begin(), target_->bytes().end(), uint8_t{0});
      host_target_->calls = 0;
      host_target_->fails_from = first;
      host_target_->error = error;
      auto copied = copy_all(options_);
      ASSERT_TRUE(copied.ok()) << copied.error().message();
      EXPECT_EQ(source_->bytes(), target_->bytes()) << error;
      // Parts that were under way may ask once more each.
      EXPECT_LE(host_target_->calls, first + options_.parallel);
      EXPECT_FALSE(target_->writes.empty());
    }
  }
}

TEST_F(OffloadTest, IsAskedFor) {
  options_.offload = false;
  ASSERT_TRUE(copy_all(options_).ok());
  EXPECT_EQ(host_target_->calls, 0U);
}

TEST_F(OffloadTest, ATargetInNoFileIsWritten) {
  target_ = std::make_unique<MemoryNode>(*executor_, kSize);
  ASSERT_TRUE(copy_all(options_).ok());
  EXPECT_EQ(source_->bytes(), target_->bytes());
}

TEST_F(CopyTest, EveryCombinationOfOptionsCopies) {
  unsigned seed = 1;
  for (unsigned parallel : {1U, 8U}) {
    for (bool out_of_order : {false, true}) {
      for (uint64_t sparse : {uint64_t{0}, uint64_t{512}, uint64_t{4096}, uint64_t{65536}}) {
        for (uint32_t cluster : {0U, 512U, 65536U, 2U << 20}) {
          for (bool zero : {false, true}) {
            fill_source(++seed);
            std::fill(target_->bytes().begin(), target_->bytes().end(),
                      zero ? uint8_t{0} : uint8_t{0xee});
            target_->set_cluster_size(cluster);
            CopyOptions options;
            options.parallel = parallel;
            options.out_of_order = out_of_order;
            options.sparse = sparse;
            options.target_is_zero = zero;
            ASSERT_TRUE(copy_all(options).ok());
            ASSERT_TRUE(source_->bytes() == target_->bytes())
                << parallel << out_of_order << " sparse " << sparse << " cluster " << cluster
                << " zero " << zero;
            EXPECT_EQ(progress_, kSize);
          }
        }
      }
    }
  }
}

TEST_F(CopyTest, WritesInTheOrderOfTheDisk) {
  fill_source(3);
  CopyOptions options;
  options.target_is_zero = true;
  ASSERT_TRUE(copy_all(options).ok());
  EXPECT_GT(target_->writes.size(), 10);
  for (size_t i = 1; i < target_->writes.size(); ++i)
    EXPECT_GE(target_->writes[i].offset, target_->writes[i - 1].end());
  EXPECT_GT(source_->most_in_flight, 1);
}

// A part's last write need not have ended for the next part's to begin.
TEST_F(CopyTest, WritesSideBySideInOrder) {
  std::fill(source_->bytes().begin(), source_->bytes().end(), uint8_t{1});
  ASSERT_TRUE(copy_all({}).ok());
  EXPECT_GT(target_->most_writing, 1);
  for (size_t i = 1; i < target_->writes.size(); ++i)
    EXPECT_EQ(target_->writes[i].offset, target_->writes[i - 1].end());
}

TEST_F(CopyTest, WritesNothingForZeroesInAnEmptyTarget) {
  CopyOptions options;
  options.target_is_zero = true;
  ASSERT_TRUE(copy_all(options).ok());
  EXPECT_THAT(target_->writes, IsEmpty());
  EXPECT_THAT(target_->zeroes, IsEmpty());
  options.target_is_zero = false;
  ASSERT_TRUE(copy_all(options).ok());
  EXPECT_THAT(target_->writes, IsEmpty());
  EXPECT_THAT(target_->zeroes, testing::Not(IsEmpty()));
  options.sparse = 0;
  ASSERT_TRUE(copy_all(options).ok());
  EXPECT_THAT(target_->writes, testing::Not(IsEmpty()));
}

TEST_F(CopyTest, WritesWholeClusters) {
  source_->bytes()[100000] = 1;
  source_->bytes()[kSize - 1] = 1;
  target_->set_cluster_size(65536);
  CopyOptions options;
  options.target_is_zero = true;
  ASSERT_TRUE(copy_all(options).ok());
  EXPECT_THAT(target_->writes, ElementsAre(ByteRange{65536, 65536}, ByteRange{4 << 20, 1536}));
}

TEST_F(CopyTest, CompressesWholeClusters) {
  fill_source(9);
  target_->set_cluster_size(65536);
  CopyOptions options;
  options.target_is_zero = true;
  unsigned compressed = 0;
  options.write_compressed = [&](uint64_t offset, IoSlice from) {
    ++compressed;
    EXPECT_EQ(offset % 65536, 0);
    EXPECT_TRUE(from.size() == 65536 || offset + from.size() == kSize);
    return target_->write(offset, from, {});
  };
  ASSERT_TRUE(copy_all(options).ok());
  EXPECT_GT(compressed, 10);
  EXPECT_TRUE(source_->bytes() == target_->bytes());
}

TEST_F(CopyTest, AReadErrorEndsItWithTheOffset) {
  fill_source(4);
  std::fill_n(source_->bytes().begin() + (2 << 20), 65536, uint8_t{1});
  source_->bad_bytes = {(2 << 20) + 5000};
  auto result = copy_all({});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message(), "error while reading at byte 2097152: Input/output error");
}

TEST_F(CopyTest, AWriteErrorEndsItWithTheOffset) {
  std::fill(source_->bytes().begin(), source_->bytes().end(), uint8_t{1});
  target_->bad_bytes = {3 << 20};
  auto result = copy_all({});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message(), "error while writing at byte 3145728: Input/output error");
}

// The parts behind the one that fails wait for a turn that it never passes on.
TEST_F(CopyTest, AWriteErrorInsideOfAPartEndsItToo) {
  std::fill(source_->bytes().begin(), source_->bytes().end(), uint8_t{1});
  std::fill_n(source_->bytes().begin() + (3 << 20) + 65536, 65536, uint8_t{0});
  source_->map_step = 1 << 20;
  target_->bad_bytes = {3 << 20};
  auto result = copy_all({.parallel = 16, .target_is_zero = true});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message(), "error while writing at byte 3145728: Input/output error");
}

TEST_F(CopyTest, SalvageReplacesUnreadableSectors) {
  std::fill(source_->bytes().begin(), source_->bytes().end(), uint8_t{1});
  source_->bad_bytes = {5000, 1 << 20};
  CopyOptions options;
  options.salvage = true;
  ASSERT_TRUE(copy_all(options).ok());
  EXPECT_THAT(warnings_, ElementsAre("error while reading offset 4608: Input/output error",
                                     "error while reading offset 1048576: Input/output error"));
  std::vector<uint8_t> expected(kSize, 1);
  std::fill_n(expected.begin() + 4608, 512, uint8_t{0});
  std::fill_n(expected.begin() + (1 << 20), 512, uint8_t{0});
  EXPECT_TRUE(target_->bytes() == expected);
}

TEST_F(CopyTest, SalvageTellsInTheOrderOfTheDisk) {
  std::fill(source_->bytes().begin(), source_->bytes().end(), uint8_t{1});
  source_->bad_bytes = {512, 70000, (2 << 20) + 1, (3 << 20) + 1, kSize - 1};
  CopyOptions options;
  options.salvage = true;
  ASSERT_TRUE(copy_all(options).ok());
  ASSERT_EQ(warnings_.size(), 5U);
  for (unsigned i = 0;
       const char* place : {" 512:", " 69632:", " 2097152:", " 3145728:", " 4195328:"})
    EXPECT_THAT(warnings_[i++], HasSubstr(place));
  EXPECT_EQ(source_->most_in_flight, 1U);
}

TEST_F(CopyTest, ProgressOfALongExtentGoesInLargeSteps) {
  std::memset(source_->bytes().data(), 1, kSize);
  std::vector<uint64_t> told{0};
  control_.progress = [&](uint64_t done, uint64_t) { told.push_back(done); };
  ASSERT_TRUE(copy_all({}).ok());
  ASSERT_GT(told.size(), 2U);
  for (size_t i = 1; i + 1 < told.size(); ++i)
    EXPECT_GE(told[i] - told[i - 1], 1U << 20);
  EXPECT_EQ(told.back(), kSize);
}

TEST_F(CopyTest, StopsWhenAsked) {
  fill_source(5);
  control_.progress = [&](uint64_t, uint64_t) { control_.stop = true; };
  auto result = copy_all({});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind(), ErrorKind::kCancelled);
  EXPECT_LT(target_->writes.size(), 30);
}

TEST_F(CopyTest, SeveralSourcesMeetInsideAUnit) {
  fill_source(6);
  MemoryNode longer(*executor_, 3 * kSize);
  longer.set_cluster_size(65536);
  CopyOptions options;
  options.target_is_zero = true;
  ConcatNode all({source_.get(), source_.get(), source_.get()});
  ASSERT_EQ(all.size(), 3 * kSize);
  ASSERT_TRUE(executor_->run(copy(*executor_, all, 3 * kSize, longer, options, control_)).ok());
  for (size_t i : {0, 1, 2}) {
    EXPECT_TRUE(std::equal(source_->bytes().begin(), source_->bytes().end(),
                           longer.bytes().begin() + static_cast<ptrdiff_t>(i * kSize)));
  }
}

TEST_F(CopyTest, KeepsToARate) {
  std::fill(source_->bytes().begin(), source_->bytes().end(), uint8_t{1});
  CopyOptions options;
  options.rate = 40 << 20;
  auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(copy_all(options).ok());
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(90));
}

}  // namespace
}  // namespace calf::ops
