// EIO and ENOSPC at every single operation on the file: the request may fail, but nothing flushed
// is lost, metadata stays consistent, and the image works again once the host does.
#include <gtest/gtest.h>

#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

class HostError : public test::ImageTest {
 protected:
  // One step changes one stretch; on failure its sectors hold the old or the new bytes.
  struct Step {
    uint64_t offset;
    Bytes bytes;
    unsigned kind;  // 0 write, 1 zero, 2 compressed, 3 flush
  };

  void SetUp() override {
    options_.cluster_size = 1024;
    options_.refcount_bits = 16;
    options_.size = 256 << 10;
    CreateOptions base;
    base.size = 128 << 10;
    base_ = make(base);
    auto image = open(base_);
    ASSERT_OK(image);
    ASSERT_OK(write(**image, 0, pattern(50, 128 << 10)));
    ASSERT_OK(close(**image));
    steps_ = {
        {1000 * 0 + 512, pattern(1, 3072), 0},
        {0, {}, 3},
        {8192, Bytes(1024, 5), 2},
        {9216, Bytes(1024, 6), 2},
        {512, pattern(2, 1024), 0},
        {0, {}, 3},
        {8704, pattern(3, 512), 0},
        {1024, Bytes(2048, 0), 1},
        {200 << 10, pattern(4, 20 << 10), 0},
        {0, {}, 3},
        {205 << 10, Bytes(4096, 0), 1},
        {205 << 10, pattern(5, 512), 0},
        {0, {}, 3},
    };
  }

  std::unique_ptr<Image> open_over(std::shared_ptr<test::SimulatedDisk> disk,
                                   test::SimulatedFile::Options file) {
    OpenOptions options;
    options.writable = true;
    auto image = open(disk, std::move(options), std::move(file));
    if (!image.ok()) return nullptr;
    auto below = open(base_, OpenOptions{});
    EXPECT_OK(below);
    (*image)->set_backing(std::move(*below));
    return std::move(*image);
  }

  Result<void> perform(Image& image, const Step& step) {
    switch (step.kind) {
      case 0:
        return write(image, step.offset, step.bytes);
      case 1:
        return zero(image, {step.offset, step.bytes.size()}, true);
      case 2:
        return write_compressed(image, step.offset, step.bytes);
      default:
        return flush(image);
    }
  }

  // Runs all steps with operation number `n` failing (and, if `for_good`, all later ones). Returns
  // false if there is no such operation.
  bool run_with_failure(uint64_t n, int code, bool for_good);

  CreateOptions options_;
  std::shared_ptr<test::SimulatedDisk> base_;
  std::vector<Step> steps_;
};

bool HostError::run_with_failure(uint64_t n, int code, bool for_good) {
  auto disk = make(options_);
  uint64_t count = 0;
  bool healed = false;
  bool hit = false;
  test::SimulatedFile::Options file;
  file.fail = [&](test::SimulatedFile::Op op, ByteRange) {
    if (healed) return 0;
    if (code == ENOSPC && (op == test::SimulatedFile::Op::kRead)) return 0;
    bool fail = for_good ? count >= n : count == n;
    ++count;
    hit |= fail;
    return fail ? code : 0;
  };
  std::unique_ptr<Image> image = open_over(disk, file);
  if (image == nullptr) {
    EXPECT_TRUE(hit);
    return true;
  }
  Bytes flat = pattern(50, 128 << 10);
  flat.resize(256 << 10);
  Bytes flushed = flat;
  // Per sector: everything that it may hold besides.
  std::vector<std::vector<Bytes>> maybe(flat.size() / 512);
  for (const Step& step : steps_) {
    Result<void> done = perform(*image, step);
    if (step.kind == 3) {
      if (done.ok()) {
        flushed = flat;
      }
      continue;
    }
    for (size_t at = 0; at < step.bytes.size(); at += 512) {
      Bytes sector(step.bytes.begin() + static_cast<ptrdiff_t>(at),
                   step.bytes.begin() + static_cast<ptrdiff_t>(at) + 512);
      size_t index = (step.offset + at) / 512;
      if (!done.ok()) {
        maybe[index].push_back(sector);
        maybe[index].push_back(Bytes(flat.begin() + static_cast<ptrdiff_t>(index * 512),
                                     flat.begin() + static_cast<ptrdiff_t>(index * 512 + 512)));
        continue;
      }
      // What this step wrote stands; what failed before it is history, unless a crash comes.
      if (!for_good) maybe[index].clear();
      if (for_good) maybe[index].push_back(sector);
      std::copy(sector.begin(), sector.end(), flat.begin() + static_cast<ptrdiff_t>(index * 512));
    }
  }
  if (!for_good) {
    healed = true;
    EXPECT_OK(close(*image));
  } else {
    (void)close(*image);
  }
  image.reset();
  expect_clean(disk, true);
  image = open_over(disk, {});
  EXPECT_NE(image, nullptr);
  if (image == nullptr) return true;
  Bytes now = *read(*image, 0, flat.size());
  const Bytes& want = for_good ? flushed : flat;
  for (size_t at = 0; at < now.size(); at += 512) {
    auto same = [&](auto from) {
      return std::equal(now.begin() + static_cast<ptrdiff_t>(at),
                        now.begin() + static_cast<ptrdiff_t>(at + 512), from);
    };
    bool fine = same(want.begin() + static_cast<ptrdiff_t>(at)) ||
                (for_good && same(flat.begin() + static_cast<ptrdiff_t>(at)));
    for (const Bytes& other : maybe[at / 512])
      fine |= same(other.begin());
    EXPECT_TRUE(fine) << "sector at " << at;
    if (!fine) break;
  }
  // It works again.
  EXPECT_OK(write(*image, 4096, pattern(9, 70000)));
  EXPECT_EQ(*read(*image, 4096, 70000), pattern(9, 70000));
  EXPECT_OK(close(*image));
  image.reset();
  expect_clean(disk, true);
  return hit;
}

TEST_F(HostError, OneFailedOperation) {
  for (int code : {EIO, ENOSPC}) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE(fmt::format("operation {} fails with {}", n, code));
      bool hit = run_with_failure(n, code, false);
      if (HasFailure()) return;
      if (!hit) break;
    }
  }
}

TEST_F(HostError, EverythingFailsFromSomePointOn) {
  for (int code : {EIO, ENOSPC}) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE(fmt::format("operations from {} on fail with {}", n, code));
      bool hit = run_with_failure(n, code, true);
      if (HasFailure()) return;
      if (!hit) break;
    }
  }
}

}  // namespace
}  // namespace calf::qcow2
