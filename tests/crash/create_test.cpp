// A new image whose disk is mapped from the start, cut short at every point of its making: what is
// left is no image at all, or the whole one.
#include <gtest/gtest.h>

#include "tests/support/crash_proof.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::CrashProof;

struct Shape {
  const char* name;
  unsigned version = 3;
  bool extended_l2 = false;
  uint64_t cluster_size = 65536;
  uint64_t size = 300 << 10;
};

class CreateCut : public test::ImageTest, public testing::WithParamInterface<Shape> {
 protected:
  CreateCut() : proof_(*this, std::make_shared<test::SimulatedDisk>()) {
    options_.version = GetParam().version;
    options_.extended_l2 = GetParam().extended_l2;
    options_.cluster_size = GetParam().cluster_size;
    options_.size = GetParam().size;
    options_.preallocation = block::Preallocation::kMetadata;
    proof_.operation = [this](const CrashProof::Disk& disk,
                              const test::SimulatedFile::Options& file) {
      test::SimulatedFile node(executor(), disk, file);
      return run(make_durable(executor(), node, options_));
    };
    proof_.look = [this](const CrashProof::Disk& disk, bool finished) { look(disk, finished); };
  }

  static Async<> make_durable(Executor& executor, block::Node& file, const CreateOptions& options) {
    CO_TRY_VOID(co_await create(executor, file, options));
    co_return co_await file.flush();
  }

  void look(const CrashProof::Disk& disk, bool finished) {
    auto image = open(disk, OpenOptions{});
    if (!image.ok()) {
      EXPECT_FALSE(finished) << image.error().message();
      return;
    }
    ++images_;
    EXPECT_EQ((*image)->size(), options_.size);
    EXPECT_TRUE(*read(**image, 0, options_.size) == Bytes(options_.size, 0));
    auto extent = run((*image)->map({0, options_.size}));
    ASSERT_OK(extent);
    EXPECT_TRUE(extent->host_offset.has_value());
    EXPECT_EQ(extent->range.length, options_.size);
    ASSERT_OK(close(**image));
    expect_clean(disk);
  }

  CreateOptions options_;
  CrashProof proof_;
  unsigned images_ = 0;
};

TEST_P(CreateCut, LeavesAWholeImageOrNone) {
  proof_.power_cuts();
  EXPECT_GT(images_, 0u);
  if (!HasFailure()) proof_.host_errors();
}

INSTANTIATE_TEST_SUITE_P(Shapes, CreateCut,
                         testing::Values(Shape{"Plain"}, Shape{"Version2", 2},
                                         Shape{"Subclusters", 3, true},
                                         Shape{"ManyTables", 3, false, 512}),
                         [](const auto& shape) { return std::string(shape.param.name); });

}  // namespace
}  // namespace calf::qcow2
