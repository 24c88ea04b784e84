// Power cuts: random operations on a simulated file; then, for every point of its log, the file as
// a cut there may have left it is opened, checked and compared.
//
//     log      w w w F w w │ w w F …
//                     cut ─┘   before the last flush F everything is there, behind it any part
//
// A sector must hold what the last flush found there, or what an operation since then put there;
// metadata must be consistent, at worst clusters leak.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

struct Done {
  size_t log_begin = 0;
  ByteRange range;
  Bytes bytes;
};
struct Flushed {
  size_t log_end = 0;
  Bytes state;
  size_t first_op_after = 0;
};

class PowerCut : public test::ImageBench {
 public:
  explicit PowerCut(uint64_t seed) : random_(seed) {}

  void record(const CreateOptions& options, bool with_base, unsigned operations);
  void replay(unsigned random_cuts);

 private:
  uint64_t up_to(uint64_t n) { return random_() % (n + 1); }
  void operation(Image& image);
  void examine(size_t prefix, std::mt19937_64* random);
  void expect_allowed(const Bytes& now, size_t prefix);

  std::mt19937_64 random_;
  std::shared_ptr<test::SimulatedDisk> disk_;
  std::shared_ptr<test::SimulatedDisk> base_;
  bool lazy_ = false;
  Bytes flat_;
  std::vector<Done> done_;
  std::vector<Flushed> flushes_;
};

void PowerCut::operation(Image& image) {
  const uint64_t sectors = image.size() / 512;
  uint64_t first = up_to(sectors - 1);
  ByteRange range{first * 512, (1 + up_to(std::min<uint64_t>(sectors - first, 24) - 1)) * 512};
  Done done;
  done.log_begin = disk_->log.size();
  done.range = range;
  switch (up_to(7)) {
    case 0:
      done.bytes = Bytes(range.length, 0);
      done_.push_back(done);
      ASSERT_OK(zero(image, range, true));
      break;
    case 1:
      done.bytes = Bytes(range.length, 0);
      done_.push_back(done);
      ASSERT_OK(discard(image, range));
      done_.back().bytes = *read(image, range.offset, range.length);
      done.bytes = done_.back().bytes;
      // On its way the sector may have been zero.
      done_.push_back({done.log_begin, range, Bytes(range.length, 0)});
      break;
    case 2: {
      const uint64_t cluster = image.limits().cluster_size;
      range.offset = align_down(range.offset, cluster);
      range.length = std::min(cluster, image.size() - range.offset);
      done.range = range;
      done.bytes = Bytes(range.length, static_cast<uint8_t>(1 + up_to(254)));
      done_.push_back(done);
      ASSERT_OK(write_compressed(image, range.offset, done.bytes));
      break;
    }
    default:
      done.bytes = pattern(random_(), range.length);
      done_.push_back(done);
      ASSERT_OK(write(image, range.offset, done.bytes));
      break;
  }
  std::copy(done.bytes.begin(), done.bytes.end(),
            flat_.begin() + static_cast<ptrdiff_t>(range.offset));
}

void PowerCut::record(const CreateOptions& options, bool with_base, unsigned operations) {
  lazy_ = options.lazy_refcounts;
  flat_.assign(align_up(options.size, 512), 0);
  if (with_base) {
    CreateOptions base;
    base.size = options.size / 2;
    base_ = make(base);
    auto image = open(base_);
    ASSERT_OK(image);
    Bytes bytes = pattern(77, (*image)->size());
    ASSERT_OK(write(**image, 0, bytes));
    ASSERT_OK(close(**image));
    std::copy(bytes.begin(), bytes.end(), flat_.begin());
  }
  disk_ = make(options);
  disk_->start_log();
  auto image = open(disk_);
  ASSERT_OK(image);
  if (base_) {
    auto below = open(base_, OpenOptions{});
    ASSERT_OK(below);
    (*image)->set_backing(std::move(*below));
  }
  flushes_.push_back({0, flat_, 0});
  for (unsigned i = 0; i < operations; ++i) {
    operation(**image);
    if (testing::Test::HasFailure()) return;
    if (up_to(3) == 0) {
      ASSERT_OK(flush(**image));
      flushes_.push_back({disk_->log.size(), flat_, done_.size()});
    }
  }
  ASSERT_OK(close(**image));
}

void PowerCut::expect_allowed(const Bytes& now, size_t prefix) {
  const Flushed* last = &flushes_.front();
  for (const Flushed& flush : flushes_) {
    if (flush.log_end <= prefix) last = &flush;
  }
  for (size_t at = 0; at < now.size(); at += 512) {
    auto same = [&](const Bytes& bytes, size_t offset) {
      return std::equal(now.begin() + static_cast<ptrdiff_t>(at),
                        now.begin() + static_cast<ptrdiff_t>(at) + 512,
                        bytes.begin() + static_cast<ptrdiff_t>(offset));
    };
    bool allowed = same(last->state, at);
    for (size_t i = last->first_op_after; !allowed && i < done_.size(); ++i) {
      const Done& op = done_[i];
      if (op.log_begin > prefix) break;
      allowed = op.range.contains(at) && same(op.bytes, at - op.range.offset);
    }
    ASSERT_TRUE(allowed) << "cut at " << prefix << ": sector at " << at
                         << " holds neither flushed nor newer data";
  }
}

void PowerCut::examine(size_t prefix, std::mt19937_64* random) {
  auto disk = std::make_shared<test::SimulatedDisk>();
  disk->content = disk_->after_cut(prefix, random);
  if (!lazy_) expect_clean(disk, true);
  if (testing::Test::HasFailure()) {
    ADD_FAILURE() << "cut at " << prefix << " of " << disk_->log.size();
    return;
  }
  auto image = open(disk);
  ASSERT_OK(image);
  if (base_) {
    auto below = open(base_, OpenOptions{});
    (*image)->set_backing(std::move(*below));
  }
  auto now = read(**image, 0, (*image)->size());
  ASSERT_OK(now);
  expect_allowed(*now, prefix);
  ASSERT_OK(close(**image));
  if (lazy_) expect_clean(disk, true);
}

void PowerCut::replay(unsigned random_cuts) {
  std::mt19937_64 cuts(random_());
  for (size_t prefix = 0; prefix <= disk_->log.size(); ++prefix) {
    examine(prefix, nullptr);
    for (unsigned i = 0; i < random_cuts && !testing::Test::HasFailure(); ++i)
      examine(prefix, &cuts);
    if (testing::Test::HasFailure()) return;
  }
}

struct Shape {
  const char* name;
  uint64_t cluster_size;
  uint64_t refcount_bits;
  unsigned version;
  bool lazy;
  bool with_base;
  bool extended_l2 = false;
};

class PowerCutTest : public testing::TestWithParam<Shape> {};

TEST_P(PowerCutTest, NothingFlushedIsLostAtAnyPoint) {
  const Shape& shape = GetParam();
  const char* more = std::getenv("QCOW2_CRASH_SEEDS");
  uint64_t seeds = more != nullptr ? std::strtoull(more, nullptr, 0) : 2;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    CreateOptions options;
    options.version = shape.version;
    options.cluster_size = shape.cluster_size;
    options.refcount_bits = shape.refcount_bits;
    options.lazy_refcounts = shape.lazy;
    options.extended_l2 = shape.extended_l2;
    options.size = 96 << 10;
    PowerCut cut(seed * 1000 + shape.cluster_size);
    cut.record(options, shape.with_base, 30);
    if (!HasFailure()) cut.replay(2);
    if (HasFailure()) return;
  }
}

// Small clusters make tables grow early: with 512 bytes and 64-bit counts a refcount block lasts
// for 64 clusters, and the refcount table for 4096.
INSTANTIATE_TEST_SUITE_P(Shapes, PowerCutTest,
                         testing::Values(Shape{"small", 512, 64, 3, false, true},
                                         Shape{"version2", 1024, 16, 2, false, true},
                                         Shape{"one_bit", 1024, 1, 3, false, false},
                                         Shape{"usual", 4096, 16, 3, false, true},
                                         Shape{"subclusters", 16384, 16, 3, false, true, true},
                                         Shape{"lazy", 1024, 16, 3, true, true}),
                         [](const auto& test_info) { return std::string(test_info.param.name); });

// The refcount table moves while data is written.
TEST(PowerCutGrowth, RefcountTableGrowsSafely) {
  CreateOptions options;
  options.cluster_size = 512;
  options.refcount_bits = 64;
  options.size = 3 << 20;
  test::ImageBench bench;
  auto disk = bench.make(options);
  auto image = bench.open(disk);
  ASSERT_OK(image);
  // 4096 clusters fill the one-cluster table; stop a little before.
  ASSERT_OK(bench.write(**image, 0, pattern(1, 1900 << 10)));
  ASSERT_OK(bench.flush(**image));
  disk->start_log();
  ASSERT_OK(bench.write(**image, 1900 << 10, pattern(2, 200 << 10)));
  ASSERT_OK(bench.flush(**image));
  ASSERT_OK(bench.close(**image));
  bench.expect_clean(disk);
  std::mt19937_64 random(5);
  for (size_t prefix = 0; prefix <= disk->log.size(); ++prefix) {
    if (disk->log.size() > 200 && prefix % 7 != 0 && prefix + 60 < disk->log.size()) continue;
    for (std::mt19937_64* cut : {static_cast<std::mt19937_64*>(nullptr), &random}) {
      auto after = std::make_shared<test::SimulatedDisk>();
      after->content = disk->after_cut(prefix, cut);
      bench.expect_clean(after, true);
      auto again = bench.open(after);
      ASSERT_OK(again);
      EXPECT_EQ(*bench.read(**again, 0, 1900 << 10), pattern(1, 1900 << 10)) << prefix;
      ASSERT_OK(bench.close(**again));
      if (HasFailure()) return;
    }
  }
}

TEST(PowerCutGrowth, ResizeMovesTheL1TableSafely) {
  CreateOptions options;
  options.cluster_size = 512;
  options.size = 1 << 20;
  test::ImageBench bench;
  auto disk = bench.make(options);
  auto image = bench.open(disk);
  ASSERT_OK(image);
  ASSERT_OK(bench.write(**image, 0, pattern(1, 1 << 20)));
  ASSERT_OK(bench.flush(**image));
  disk->start_log();
  ASSERT_OK(bench.run((*image)->truncate(8 << 20, block::Preallocation::kOff)));
  ASSERT_OK(bench.write(**image, 7 << 20, pattern(3, 4096)));
  ASSERT_OK(bench.close(**image));
  bench.expect_clean(disk);
  std::mt19937_64 random(6);
  for (size_t prefix = 0; prefix <= disk->log.size(); ++prefix) {
    for (std::mt19937_64* cut : {static_cast<std::mt19937_64*>(nullptr), &random}) {
      auto after = std::make_shared<test::SimulatedDisk>();
      after->content = disk->after_cut(prefix, cut);
      bench.expect_clean(after, true);
      auto again = bench.open(after);
      ASSERT_OK(again);
      EXPECT_EQ(*bench.read(**again, 0, 1 << 20), pattern(1, 1 << 20)) << prefix;
      if ((*again)->size() > (1 << 20)) {
        Bytes rest = *bench.read(**again, 1 << 20, 6 << 20);
        EXPECT_EQ(rest, Bytes(6 << 20, 0));
      }
      ASSERT_OK(bench.close(**again));
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace calf::qcow2
