// Resize, both ways, with a snapshot and a longer base present, held against every cut and every
// host error: the disk has the old size or the new one, holds what it held, reads as zeroes where
// it is new, and the snapshot is what it was.
#include <gtest/gtest.h>

#include "tests/support/crash_proof.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::CrashProof;
using test::pattern;

struct Shape {
  const char* name;
  unsigned version;
  uint64_t cluster_size;
  bool base;
  bool snapshot;
  bool full = false;  // every cluster is mapped
};

class ResizeCrash : public test::ImageTest, public testing::WithParamInterface<Shape> {
 protected:
  using Disk = CrashProof::Disk;

  // Not a whole number of clusters, so that the last one has a hidden rest.
  static constexpr uint64_t kSize = (200 << 10) + 512 * 3;

  void SetUp() override {
    const Shape& shape = GetParam();
    CreateOptions options;
    options.version = shape.version;
    options.cluster_size = shape.cluster_size;
    if (shape.base) {
      options.size = 2 * kSize;
      base_ = make(options);
      auto image = open(base_);
      ASSERT_OK(image);
      ASSERT_OK(write(**image, 0, pattern(50, 2 * kSize)));
      ASSERT_OK(close(**image));
    }
    options.size = kSize;
    disk_ = make(options);
    auto image = open_over(disk_, true, {});
    ASSERT_OK(image);
    if (shape.full) {
      ASSERT_OK(write(**image, 0, pattern(4, kSize)));
    }
    ASSERT_OK(write(**image, 1024, pattern(1, 60 << 10)));
    ASSERT_OK(write(**image, kSize - (30 << 10), pattern(2, 30 << 10)));
    ASSERT_OK(write_compressed(**image, 100 * 1024 / shape.cluster_size * shape.cluster_size,
                               Bytes(shape.cluster_size, 7)));
    flat_ = *read(**image, 0, kSize);
    kept_ = flat_;
    if (shape.snapshot) {
      ASSERT_OK(run((*image)->create_snapshot({"kept"})));
      ASSERT_OK(write(**image, 4096, pattern(3, 8192)));
      flat_ = *read(**image, 0, kSize);
    }
    ASSERT_OK(close(**image));
  }
  Result<std::unique_ptr<Image>> open_over(const Disk& disk, bool writable,
                                           test::SimulatedFile::Options file) {
    OpenOptions options;
    options.writable = writable;
    TRY(auto image, open(disk, std::move(options), std::move(file)));
    if (base_) {
      TRY(auto below, open(base_, OpenOptions{}));
      image->set_backing(std::move(below));
    }
    return image;
  }
  void prove(uint64_t size) {
    CrashProof proof(*this, disk_);
    proof.operation = [&, size](const Disk& disk, const test::SimulatedFile::Options& file) {
      auto image = open_over(disk, true, file);
      if (!image.ok()) return Result<void>(std::move(image.error()));
      Result<void> done = run((*image)->truncate(size, block::Preallocation::kOff));
      Result<void> closed = close(**image);
      return done.ok() ? std::move(closed) : std::move(done);
    };
    proof.look = [&, size](const Disk& disk, bool finished) { look(disk, size, finished); };
    proof.random_cuts = 2;
    proof.max_prefixes = 120;
    proof.power_cuts();
    if (!HasFailure()) proof.host_errors();
  }
  void look(const Disk& disk, uint64_t size, bool finished) {
    expect_clean(disk, true);
    auto image = open_over(disk, false, {});
    ASSERT_OK(image);
    const uint64_t now = (*image)->size();
    EXPECT_TRUE(now == size || (now == kSize && !finished)) << now;
    expect_content(**image, std::min(now, kSize));
    if (GetParam().snapshot) {
      ASSERT_OK(run((*image)->show_snapshot(0)));
      EXPECT_TRUE(*read(**image, 0, kSize) == kept_);
    }
    ASSERT_OK(close(**image));
    if (finished && size < kSize) expect_no_empty_blocks(disk->content);
    // What a shrink has cut off does not come back, nor does what a cut one has left.
    image = open_over(disk, true, {});
    ASSERT_OK(image);
    ASSERT_OK(run((*image)->truncate(3 * kSize / 512 * 512, block::Preallocation::kOff)));
    expect_content(**image, std::min(now, kSize));
    ASSERT_OK(close(**image));
    expect_clean(disk, true);
  }
  // Every refcount block counts something besides itself.
  void expect_no_empty_blocks(const test::Content& content) {
    const uint64_t cluster = GetParam().cluster_size;
    be64 table = 0;
    be32 clusters = 0;
    read_raw(content, 48, table);
    read_raw(content, 56, clusters);
    for (uint64_t i = 0; i < clusters * cluster / 8; ++i) {
      be64 block = 0;
      read_raw(content, table + i * 8, block);
      if (block == 0U) continue;
      Bytes counts(cluster);
      content.read(block, counts);
      const uint64_t own = block / cluster;
      if (own / (cluster / 2) == i) counts[own % (cluster / 2) * 2 + 1] = 0;
      EXPECT_FALSE(
          std::all_of(counts.begin(), counts.end(), [](uint8_t byte) { return byte == 0; }))
          << "block " << i;
    }
  }
  template <class T>
  static void read_raw(const test::Content& content, uint64_t offset, T& to) {
    content.read(offset, std::span(reinterpret_cast<uint8_t*>(&to), sizeof to));
  }
  // The first `old` bytes as they were, zeroes behind.
  void expect_content(Image& image, uint64_t old) {
    auto bytes = read(image, 0, image.size());
    ASSERT_OK(bytes);
    auto end = bytes->begin() + static_cast<ptrdiff_t>(old);
    EXPECT_TRUE(std::equal(bytes->begin(), end, flat_.begin()));
    EXPECT_TRUE(std::all_of(end, bytes->end(), [](uint8_t byte) { return byte == 0; }));
  }

  Disk base_;
  Disk disk_;
  Bytes flat_;
  Bytes kept_;
};

TEST_P(ResizeCrash, Grow) {
  prove(2 * kSize);
}

TEST_P(ResizeCrash, Shrink) {
  prove(80 << 10);
}

INSTANTIATE_TEST_SUITE_P(Shapes, ResizeCrash,
                         testing::Values(Shape{"alone", 3, 4096, false, false},
                                         Shape{"snapshot", 3, 1024, false, true},
                                         Shape{"small_clusters", 3, 512, true, true},
                                         Shape{"several_blocks", 3, 512, false, false, true},
                                         Shape{"base", 3, 4096, true, false},
                                         Shape{"version2", 2, 4096, false, false}),
                         [](const auto& test_info) { return std::string(test_info.param.name); });

}  // namespace
}  // namespace calf::qcow2
