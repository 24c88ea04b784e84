// Commit and rebase, held against every cut and every host error: what the overlay shows never
// changes, on whichever base it says that it stands.
#include <gtest/gtest.h>

#include "block/ops/commit.h"
#include "block/ops/rebase.h"
#include "tests/support/crash_proof.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::CrashProof;
using test::pattern;

constexpr uint64_t kSize = 96 << 10;

struct Shape {
  const char* name;
  unsigned version;
  uint64_t cluster_size;
  bool snapshot;
};

class ChainJob : public test::ImageTest, public testing::WithParamInterface<Shape> {
 protected:
  using Disk = CrashProof::Disk;

  CreateOptions options(uint64_t size) {
    CreateOptions out;
    out.version = GetParam().version;
    out.cluster_size = GetParam().cluster_size;
    out.size = size;
    return out;
  }
  void SetUp() override {
    old_ = base(1, kSize / 2);
    // Equal to the old one in its first part, different then, and longer.
    new_ = base(1, kSize / 4);
    auto image = open(new_);
    ASSERT_OK(image);
    ASSERT_OK(run((*image)->truncate(2 * kSize, block::Preallocation::kOff)));
    ASSERT_OK(write(**image, kSize / 4, pattern(3, kSize)));
    ASSERT_OK(close(**image));

    CreateOptions overlay = options(kSize);
    overlay.backing_name = "old";
    overlay.backing_format = "qcow2";
    overlay_ = make(overlay);
    image = open_on(overlay_, old_, true, {});
    ASSERT_OK(image);
    const uint64_t cluster = GetParam().cluster_size;
    ASSERT_OK(write(**image, cluster + 512, pattern(4, 2 * cluster)));
    if (GetParam().snapshot) {
      ASSERT_OK(run((*image)->create_snapshot({"kept"})));
    }
    ASSERT_OK(write_compressed(**image, 6 * cluster, Bytes(cluster, 5)));
    ASSERT_OK(zero(**image, {8 * cluster, 2 * cluster}, true));
    ASSERT_OK(write(**image, kSize - 2048, pattern(6, 1024)));
    shown_ = *read(**image, 0, kSize);
    ASSERT_OK(close(**image));
  }
  Disk base(uint64_t tag, uint64_t size) {
    Disk disk = make(options(size));
    auto image = open(disk);
    EXPECT_OK(image);
    EXPECT_OK(write(**image, 0, pattern(tag, size - 3072)));
    EXPECT_OK(close(**image));
    return disk;
  }
  static Disk copy_of(const Disk& disk) {
    auto copy = std::make_shared<test::SimulatedDisk>();
    copy->content = disk->content;
    return copy;
  }
  Result<std::unique_ptr<Image>> open_on(Disk disk, Disk base, bool writable,
                                         test::SimulatedFile::Options file,
                                         bool base_writable = false,
                                         test::SimulatedFile::Options base_file = {}) {
    OpenOptions image_options;
    image_options.writable = writable;
    TRY(auto image, open(std::move(disk), std::move(image_options), std::move(file)));
    if (base) {
      OpenOptions base_options;
      base_options.writable = base_writable;
      TRY(auto below, open(std::move(base), std::move(base_options), std::move(base_file)));
      image->set_backing(std::move(below));
    }
    return image;
  }
  void expect_shown(const Disk& overlay, const Disk& base) {
    expect_clean(overlay, true);
    auto image = open_on(overlay, base, false, {});
    ASSERT_OK(image);
    auto now = read(**image, 0, kSize);
    ASSERT_OK(now);
    for (size_t at = 0; at < kSize; at += 512) {
      bool same = std::equal(now->begin() + static_cast<ptrdiff_t>(at),
                             now->begin() + static_cast<ptrdiff_t>(at + 512),
                             shown_.begin() + static_cast<ptrdiff_t>(at));
      ASSERT_TRUE(same) << "sector at " << at;
    }
    ASSERT_OK(close(**image));
  }
  void prove(CrashProof& proof) {
    proof.random_cuts = 2;
    proof.max_prefixes = 120;
    proof.power_cuts();
    if (!HasFailure()) proof.host_errors();
  }

  Disk old_;
  Disk new_;
  Disk overlay_;
  Bytes shown_;
  ops::JobControl control_;
};

TEST_P(ChainJob, CommitWritesTheBase) {
  CrashProof proof(*this, old_);
  proof.operation = [&](const Disk& disk, const test::SimulatedFile::Options& file) {
    auto image = open_on(copy_of(overlay_), disk, true, {}, true, file);
    if (!image.ok()) return Result<void>(std::move(image.error()));
    ops::CommitTarget target = ops::find_commit_target(**image);
    Result<void> done = run(ops::commit(executor(), **image, target, {}, control_));
    Result<void> closed = close(**image);
    return done.ok() ? std::move(closed) : std::move(done);
  };
  proof.look = [&](const Disk& disk, bool finished) {
    expect_clean(disk, true);
    expect_shown(overlay_, disk);
    if (!finished) return;
    auto image = open(disk, OpenOptions{});
    ASSERT_OK(image);
    EXPECT_TRUE(*read(**image, 0, kSize) == shown_);
    ASSERT_OK(close(**image));
  };
  prove(proof);
}

TEST_P(ChainJob, CommitEmptiesTheOverlay) {
  Disk committed = copy_of(old_);
  auto image = open_on(copy_of(overlay_), committed, true, {}, true);
  ASSERT_OK(image);
  ASSERT_OK(run(ops::commit(executor(), **image, ops::find_commit_target(**image), {}, control_)));
  ASSERT_OK(close(**image));
  CrashProof proof(*this, overlay_);
  proof.operation = [&](const Disk& disk, const test::SimulatedFile::Options& file) {
    auto overlay = open_on(disk, committed, true, file);
    if (!overlay.ok()) return Result<void>(std::move(overlay.error()));
    Result<void> done = run(ops::empty_overlay(**overlay));
    Result<void> closed = close(**overlay);
    return done.ok() ? std::move(closed) : std::move(done);
  };
  proof.look = [&](const Disk& disk, bool finished) {
    expect_shown(disk, committed);
    auto overlay = open_on(disk, committed, false, {});
    ASSERT_OK(overlay);
    auto extent = run((*overlay)->map({0, kSize}));
    ASSERT_OK(extent);
    EXPECT_TRUE(!finished || (!extent->allocated && extent->range.length == kSize));
    ASSERT_OK(close(**overlay));
  };
  prove(proof);
}

// The two halves above are one only if nothing of the overlay goes before the base is durable.
TEST_P(ChainJob, TheBaseIsDurableBeforeTheOverlayIsEmptied) {
  Disk base = copy_of(old_);
  Disk overlay = copy_of(overlay_);
  base->start_log();
  bool committed = false;
  test::SimulatedFile::Options file;
  file.fail = [&](test::SimulatedFile::Op op, ByteRange) {
    if (op != test::SimulatedFile::Op::kWrite || committed) return 0;
    committed = true;
    size_t durable = 0;
    size_t last_change = 0;
    for (size_t i = 0; i < base->log.size(); ++i) {
      // (Holes are punched later, where nothing is any more.)
      if (base->log[i].kind == test::LoggedOp::Kind::kFlush) {
        durable = std::max<size_t>(durable, base->log[i].offset);
      } else if (base->log[i].kind == test::LoggedOp::Kind::kWrite) {
        last_change = i + 1;
      }
    }
    EXPECT_NE(last_change, 0u);
    EXPECT_LE(last_change, durable);
    return 0;
  };
  auto image = open_on(overlay, base, true, file, true);
  ASSERT_OK(image);
  ops::CommitTarget target = ops::find_commit_target(**image);
  ASSERT_OK(run(ops::commit(executor(), **image, target, {}, control_)));
  ASSERT_FALSE(committed);
  ASSERT_OK(run(ops::empty_overlay(**image)));
  ASSERT_TRUE(committed);
  ASSERT_OK(close(**image));
  expect_clean(overlay);
}

TEST_P(ChainJob, Rebase) {
  for (bool flatten : {false, true}) {
    CrashProof proof(*this, overlay_);
    proof.operation = [&](const Disk& disk, const test::SimulatedFile::Options& file) {
      auto image = open_on(disk, old_, true, file);
      if (!image.ok()) return Result<void>(std::move(image.error()));
      test::SimulatedFile::Options base_file;
      base_file.name = "new";
      auto base = open(new_, OpenOptions{}, base_file);
      EXPECT_OK(base);
      block::Node* to = flatten ? nullptr : base->get();
      Result<void> done = run(ops::rebase(executor(), **image, to, control_));
      BackingRecord record;
      if (!flatten) record = {"a new name that is longer", "qcow2", Bytes(32, 7)};
      if (done.ok()) done = run(ops::record_backing(**image, record));
      Result<void> closed = close(**image);
      return done.ok() ? std::move(closed) : std::move(done);
    };
    proof.look = [&](const Disk& disk, bool finished) {
      auto image = open(disk, OpenOptions{});
      ASSERT_OK(image);
      BackingRecord record = (*image)->backing_record();
      ASSERT_OK(close(**image));
      Disk base = old_;
      if (record.name != "old") {
        base = flatten ? nullptr : new_;
        EXPECT_EQ(record.name.has_value(), !flatten);
        EXPECT_EQ(record.format.has_value(), !flatten);
        EXPECT_EQ(record.fingerprint.has_value(), !flatten);
      } else {
        EXPECT_EQ(record.format, "qcow2");
        EXPECT_FALSE(finished);
      }
      SCOPED_TRACE(record.name.value_or("no base"));
      expect_shown(disk, base);
    };
    prove(proof);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ChainJob,
                         testing::Values(Shape{"usual", 3, 4096, false},
                                         Shape{"snapshot", 3, 2048, true},
                                         Shape{"version2", 2, 4096, true},
                                         Shape{"small_clusters", 3, 1024, false}),
                         [](const auto& test_info) { return std::string(test_info.param.name); });

}  // namespace
}  // namespace calf::qcow2
