// Subclusters, bitmaps and data files, each operation alone, held against every cut and every host
// error.
#include <gtest/gtest.h>

#include <algorithm>

#include "block/qcow2/bitmap_store.h"
#include "tests/support/crash_proof.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::CrashProof;
using test::pattern;

// ---- Subclusters ----

constexpr uint64_t kCluster = 16384;  // subclusters of 512 bytes

class SubclusterCut : public test::ImageTest {
 protected:
  void SetUp() override {
    CreateOptions base;
    base.size = 8 * kCluster;
    base_ = make(base);
    auto below = open(base_);
    ASSERT_OK(below);
    ASSERT_OK(write(**below, 0, pattern(9, base.size)));
    ASSERT_OK(close(**below));

    CreateOptions options;
    options.size = base.size;
    options.cluster_size = kCluster;
    options.extended_l2 = true;
    options.backing_name = "base";
    options.backing_format = "qcow2";
    before_ = make(options);
    auto image = open_over(before_, {});
    ASSERT_OK(image);
    ASSERT_OK(write(**image, 1024, pattern(1, 1024)));
    ASSERT_OK(write(**image, kCluster + 4096, pattern(2, 4096)));
    ASSERT_OK(close(**image));
    old_ = content(before_);
  }
  Result<std::unique_ptr<Image>> open_over(const CrashProof::Disk& disk,
                                           test::SimulatedFile::Options file) {
    OpenOptions options;
    options.writable = true;
    TRY(auto image, open(disk, std::move(options), std::move(file)));
    TRY(auto below, open(base_, OpenOptions{}));
    image->set_backing(std::move(below));
    return image;
  }
  Bytes content(const CrashProof::Disk& disk) {
    auto image = open_over(disk, {});
    EXPECT_OK(image);
    if (!image.ok()) return {};
    auto bytes = read(**image, 0, (*image)->size());
    EXPECT_OK(bytes);
    EXPECT_OK(close(**image));
    return bytes.ok() ? *bytes : Bytes{};
  }
  // Each sector holds what it held before or what `change` makes of it.
  void prove(std::function<Result<void>(Image&)> change) {
    auto changed = std::make_shared<test::SimulatedDisk>();
    changed->content = before_->content;
    auto image = open_over(changed, {});
    ASSERT_OK(image);
    ASSERT_OK(change(**image));
    ASSERT_OK(close(**image));
    const Bytes wanted = content(changed);

    CrashProof proof(*this, before_);
    proof.operation = [&](const CrashProof::Disk& disk, const test::SimulatedFile::Options& file) {
      auto opened = open_over(disk, file);
      if (!opened.ok()) return Result<void>(std::move(opened.error()));
      Result<void> done = change(**opened);
      Result<void> closed = close(**opened);
      return done.ok() ? std::move(closed) : std::move(done);
    };
    proof.look = [&](const CrashProof::Disk& disk, bool finished) {
      expect_clean(disk, true);
      const Bytes now = content(disk);
      ASSERT_EQ(now.size(), old_.size());
      for (size_t at = 0; at < now.size(); at += 512) {
        auto same = [&](const Bytes& other) {
          return std::equal(now.begin() + static_cast<ptrdiff_t>(at),
                            now.begin() + static_cast<ptrdiff_t>(at + 512),
                            other.begin() + static_cast<ptrdiff_t>(at));
        };
        ASSERT_TRUE(same(wanted) || (!finished && same(old_))) << "sector at " << at;
      }
    };
    proof.power_cuts();
    if (!HasFailure()) proof.host_errors();
  }

  std::shared_ptr<test::SimulatedDisk> base_;
  std::shared_ptr<test::SimulatedDisk> before_;
  Bytes old_;
};

TEST_F(SubclusterCut, AllocationOfACluster) {
  prove([&](Image& image) { return write(image, 3 * kCluster + 700, pattern(5, 3000)); });
}
TEST_F(SubclusterCut, AllocationInsideACluster) {
  prove([&](Image& image) { return write(image, 1800, pattern(5, 5000)); });
}
TEST_F(SubclusterCut, ZeroesInsideACluster) {
  prove([&](Image& image) { return zero(image, {kCluster + 4608, 2048}, false); });
}
TEST_F(SubclusterCut, ZeroesWhereNothingIs) {
  prove([&](Image& image) { return zero(image, {5 * kCluster + 512, 1024}, true); });
}
TEST_F(SubclusterCut, Discard) {
  prove([&](Image& image) { return discard(image, {0, 2 * kCluster}); });
}
TEST_F(SubclusterCut, Compressed) {
  prove([&](Image& image) { return write_compressed(image, kCluster, Bytes(kCluster, 7)); });
}

// ---- Bitmaps ----

class BitmapCut : public test::ImageTest {
 protected:
  void SetUp() override {
    CreateOptions options;
    options.size = 256 << 10;
    options.cluster_size = 1024;
    before_ = make(options);
    auto image = open(before_);
    ASSERT_OK(image);
    ASSERT_OK((*image)->bitmaps().add("records", 12));
    ASSERT_OK((*image)->bitmaps().add("rests", 9));
    ASSERT_OK(write(**image, 8192, pattern(1, 10000)));
    ASSERT_OK(run((*image)->bitmaps().set_recording("rests", false)));
    ASSERT_OK(close(**image));
    old_ = pattern(0, 0);
    old_.resize(256 << 10);
    Bytes written = pattern(1, 10000);
    std::copy(written.begin(), written.end(), old_.begin() + 8192);
  }

  static bool names(const std::vector<BitmapInfo>& infos, std::string_view name) {
    return std::any_of(infos.begin(), infos.end(), [&](const auto& i) { return i.name == name; });
  }
  // A bitmap that can be believed has a bit for everything that was written since it was made.
  void expect_honest(Image& image, const std::string& name, const Bytes& now) {
    auto bits = run(image.bitmaps().bits(name));
    ASSERT_OK(bits);
    for (uint64_t at = 0; at < now.size(); at += 512) {
      const bool changed = std::any_of(now.begin() + static_cast<ptrdiff_t>(at),
                                       now.begin() + static_cast<ptrdiff_t>(at + 512),
                                       [](uint8_t byte) { return byte != 0; });
      ASSERT_TRUE(!changed || (*bits)->is_set(at)) << name << " does not know of " << at;
    }
  }
  // `there`: bitmaps that must be consistent if the operation has ended.
  void prove(std::function<Result<void>(Image&)> change, std::vector<std::string> there) {
    CrashProof proof(*this, before_);
    proof.max_prefixes = 200;
    proof.operation = proof.on_image(std::move(change));
    proof.look = [&](const CrashProof::Disk& disk, bool finished) {
      expect_clean(disk, true);
      auto image = open(disk, OpenOptions{});
      ASSERT_OK(image);
      auto now = read(**image, 0, (*image)->size());
      ASSERT_OK(now);
      const std::vector<BitmapInfo> infos = (*image)->info().bitmaps;
      for (const BitmapInfo& info : infos) {
        if (!info.in_use && info.name == "records") expect_honest(**image, info.name, *now);
        EXPECT_FALSE(finished && info.in_use) << info.name;
      }
      if (finished) {
        EXPECT_EQ(infos.size(), there.size());
        for (const std::string& name : there)
          EXPECT_TRUE(names(infos, name)) << name;
      }
      ASSERT_OK(close(**image));
      // Writing goes on, whatever state it is in.
      auto again = open(disk);
      ASSERT_OK(again);
      ASSERT_OK(write(**again, 100 << 10, pattern(8, 512)));
      ASSERT_OK(close(**again));
      expect_clean(disk, true);
    };
    proof.power_cuts();
    if (!HasFailure()) proof.host_errors();
  }

  std::shared_ptr<test::SimulatedDisk> before_;
  Bytes old_;
};

TEST_F(BitmapCut, RecordedWrites) {
  prove([&](Image& image) { return write(image, 50 << 10, pattern(2, 9000)); },
        {"records", "rests"});
}
TEST_F(BitmapCut, Add) {
  prove([&](Image& image) { return image.bitmaps().add("new", 16); }, {"records", "rests", "new"});
}
TEST_F(BitmapCut, Remove) {
  prove([&](Image& image) { return run(image.bitmaps().remove("records")); }, {"rests"});
}
TEST_F(BitmapCut, RemoveTheLast) {
  prove(
      [&](Image& image) -> Result<void> {
        TRY_VOID(run(image.bitmaps().remove("records")));
        return run(image.bitmaps().remove("rests"));
      },
      {});
}
TEST_F(BitmapCut, Resize) {
  prove([&](Image& image) { return run(image.truncate(300 << 10, block::Preallocation::kOff)); },
        {"records", "rests"});
}
TEST_F(BitmapCut, NamesThatMakeTheHeaderLong) {
  // The backing name, behind the extensions, has to give way.
  CreateOptions options;
  options.size = 64 << 10;
  options.cluster_size = 4096;
  options.backing_name = std::string(300, 'b');
  options.backing_format = "raw";
  auto disk = make(options);
  CrashProof proof(*this, disk);
  proof.operation = proof.on_image([&](Image& image) { return image.bitmaps().add("new", 16); });
  proof.look = [&](const CrashProof::Disk& after, bool finished) {
    expect_clean(after, true);
    auto image = open(after, OpenOptions{});
    ASSERT_OK(image);
    EXPECT_EQ((*image)->backing_name(), options.backing_name);
    EXPECT_EQ((*image)->backing_format(), options.backing_format);
    EXPECT_TRUE(!finished || (*image)->info().bitmaps.size() == 1u);
    ASSERT_OK(close(**image));
  };
  proof.power_cuts();
  if (!HasFailure()) proof.host_errors();
}

// ---- Data files ----

// Two files that lose power together: what was flushed of one says nothing about the other.
class DataFileCut : public test::ImageBench, public testing::TestWithParam<bool> {
 protected:
  Result<std::unique_ptr<Image>> open_both(const CrashProof::Disk& disk,
                                           const CrashProof::Disk& data,
                                           test::SimulatedFile::Options file) {
    OpenOptions options;
    options.writable = true;
    TRY(auto image, open(disk, std::move(options), std::move(file)));
    test::SimulatedFile::Options plain;
    image->set_data_file(std::make_unique<test::SimulatedFile>(executor(), data, std::move(plain)));
    return image;
  }
};

TEST_P(DataFileCut, FlushedDataIsThereAtAnyPoint) {
  CreateOptions options;
  options.size = 512 << 10;
  options.cluster_size = 16384;
  options.extended_l2 = GetParam();
  options.data_file = "data";
  CrashProof::Disk data;
  CrashProof::Disk disk = make(options, &data);
  // The place had another use before.
  data->content.write(0, pattern(99, 512 << 10));
  disk->start_log();
  data->start_log();

  // How long the data file's log was when the image's reached each length.
  std::vector<size_t> data_length;
  test::SimulatedFile::Options file;
  file.fail = [&](test::SimulatedFile::Op, ByteRange) {
    data_length.resize(disk->log.size() + 1, data->log.size());
    return 0;
  };
  auto image = open_both(disk, data, std::move(file));
  ASSERT_OK(image);
  Bytes flat(512 << 10);
  struct Point {
    size_t image_log, data_log;
    Bytes flushed;
  };
  std::vector<Point> flushes{{0, 0, flat}};
  std::vector<std::pair<uint64_t, Bytes>> writes;
  std::mt19937_64 random(7);
  for (unsigned i = 0; i < 40; ++i) {
    const uint64_t offset = random() % 900 * 512;
    Bytes bytes = pattern(i + 1, 512 * (1 + random() % 80));
    writes.emplace_back(offset, bytes);
    if (i % 5 == 4) bytes.assign(bytes.size(), 0);
    if (i % 5 == 4) {
      writes.back().second = bytes;
      ASSERT_OK(zero(**image, {offset, bytes.size()}, true));
    } else {
      ASSERT_OK(write(**image, offset, bytes));
    }
    std::copy(bytes.begin(), bytes.end(), flat.begin() + static_cast<ptrdiff_t>(offset));
    if (i % 4 == 3) {
      ASSERT_OK(flush(**image));
      flushes.push_back({disk->log.size(), data->log.size(), flat});
    }
  }
  ASSERT_OK(close(**image));
  data_length.resize(disk->log.size() + 1, data->log.size());

  for (size_t prefix = 0; prefix <= disk->log.size(); ++prefix) {
    const size_t latest =
        prefix + 1 < data_length.size() ? data_length[prefix + 1] : data->log.size();
    for (size_t data_prefix : {data_length[prefix], latest}) {
      auto after = std::make_shared<test::SimulatedDisk>();
      auto data_after = std::make_shared<test::SimulatedDisk>();
      after->content = disk->after_cut(prefix, &random);
      data_after->content = data->after_cut(data_prefix, &random);
      expect_clean(after, true);
      auto again = open_both(after, data_after, {});
      ASSERT_OK(again);
      Bytes now = *read(**again, 0, flat.size());
      const Bytes* flushed = &flushes[0].flushed;
      for (const Point& point : flushes) {
        if (point.image_log <= prefix && point.data_log <= data_prefix) flushed = &point.flushed;
      }
      for (size_t at = 0; at < now.size(); at += 512) {
        auto same = [&](const Bytes& other, size_t from) {
          return std::equal(now.begin() + static_cast<ptrdiff_t>(at),
                            now.begin() + static_cast<ptrdiff_t>(at + 512),
                            other.begin() + static_cast<ptrdiff_t>(from));
        };
        bool allowed = same(*flushed, at);
        for (const auto& [offset, bytes] : writes) {
          if (allowed) break;
          if (at >= offset && at < offset + bytes.size()) allowed = same(bytes, at - offset);
        }
        ASSERT_TRUE(allowed) << "cut at " << prefix << "/" << data_prefix << ": sector at " << at;
      }
      ASSERT_OK(close(**again));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Entries, DataFileCut, testing::Bool(), [](const auto& test_info) {
  return std::string(test_info.param ? "extended" : "plain");
});

}  // namespace
}  // namespace calf::qcow2
