// One test for each way in which other engines have lost data. Those that need a crash are in
// tests/crash, those that need a hostile file in tests/hostile.
#include "block/io/sync.h"
#include "block/qcow2/format.h"
#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

constexpr uint64_t kCluster = 4096;

class Defects : public test::ImageTest {
 protected:
  // 1 MiB in 4 KiB clusters: header 0, table 1, block 2, L1 3, L2 4, data from 5 on.
  std::shared_ptr<test::SimulatedDisk> make_filled(unsigned clusters) {
    CreateOptions options;
    options.size = 1 << 20;
    options.cluster_size = kCluster;
    auto disk = make(options);
    auto image = open(disk);
    EXPECT_OK(write(**image, 0, pattern(1, clusters * kCluster)));
    EXPECT_OK(close(**image));
    return disk;
  }
  uint64_t get64(test::SimulatedDisk& disk, uint64_t offset) {
    be64 raw;
    disk.content.read(offset, std::span(reinterpret_cast<uint8_t*>(&raw), 8));
    return raw;
  }
  void put64(test::SimulatedDisk& disk, uint64_t offset, uint64_t value) {
    be64 raw = value;
    disk.content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&raw), 8));
  }
  void put16(test::SimulatedDisk& disk, uint64_t offset, uint16_t value) {
    be16 raw = value;
    disk.content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&raw), 2));
  }
  // What an internal snapshot does to the tables: everything is shared, no COPIED flag.
  void share_everything(test::SimulatedDisk& disk, unsigned clusters) {
    put64(disk, 3 * kCluster, get64(disk, 3 * kCluster) & ~format::kCopied);
    for (unsigned i = 0; i < clusters; ++i) {
      uint64_t at = 4 * kCluster + 8 * i;
      put64(disk, at, get64(disk, at) & ~format::kCopied);
    }
    for (unsigned i = 0; i <= clusters; ++i)
      put16(disk, 2 * kCluster + 2 * (4 + i), 2);
  }
  Bytes host(test::SimulatedDisk& disk, uint64_t offset, size_t size) {
    Bytes out(size);
    disk.content.read(offset, out);
    return out;
  }
};

TEST_F(Defects, SharedClustersAndTablesAreCopied) {
  auto disk = make_filled(8);
  share_everything(*disk, 8);
  Bytes old_tables = host(*disk, 4 * kCluster, 9 * kCluster);
  auto image = open(disk);
  ASSERT_OK(image);
  ASSERT_OK(write(**image, 512, pattern(2, 512)));
  ASSERT_OK(discard(**image, {2 * kCluster, kCluster}));
  ASSERT_OK(zero(**image, {3 * kCluster, kCluster}, false));
  ASSERT_OK(flush(**image));
  EXPECT_EQ(host(*disk, 4 * kCluster, 9 * kCluster), old_tables);
  EXPECT_EQ(*read(**image, 512, 512), pattern(2, 512));
  EXPECT_EQ(*read(**image, 2 * kCluster, 2 * kCluster), Bytes(2 * kCluster, 0));
  ASSERT_OK(close(**image));
  // What the snapshot would still hold is counted once now, the rest twice: no cluster was freed.
  EXPECT_EQ(host(*disk, 4 * kCluster, 9 * kCluster), old_tables);
}

TEST_F(Defects, FailedCopyOfATableKeepsTheOldOne) {
  for (int failing = 0; failing < 12; ++failing) {
    auto disk = make_filled(8);
    share_everything(*disk, 8);
    int writes = 0;
    OpenOptions options;
    options.writable = true;
    test::SimulatedFile::Options file;
    file.fail = [&](test::SimulatedFile::Op op, ByteRange) {
      return op == test::SimulatedFile::Op::kWrite && writes++ == failing ? EIO : 0;
    };
    auto image = open(disk, std::move(options), file);
    ASSERT_OK(image);
    (void)write(**image, 512, pattern(2, 512));
    (void)flush(**image);
    Bytes now = *read(**image, 0, 8 * kCluster);
    Bytes want = pattern(1, 8 * kCluster);
    EXPECT_TRUE(std::equal(now.begin() + 1024, now.end(), want.begin() + 1024));
    (void)close(**image);
    Result<CheckResult> result = check(disk);
    ASSERT_OK(result);
    auto again = open(disk, OpenOptions{});
    now = *read(**again, 0, 8 * kCluster);
    EXPECT_TRUE(std::equal(now.begin() + 1024, now.end(), want.begin() + 1024));
    ASSERT_OK(close(**again));
  }
}

Async<> write_one(Image& image, uint64_t offset, const Bytes& bytes) {
  FlatIo io(std::span<const uint8_t>{bytes});
  co_return co_await image.write(offset, io.slice(), {});
}

// Eight requests for eight sectors of one cluster that is to be copied from the base.
TEST_F(Defects, RequestsForOneClusterAtOnceAreAllKept) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    auto base_disk = make_filled(8);
    CreateOptions create;
    create.size = 1 << 20;
    create.cluster_size = kCluster;
    auto disk = make(create);
    OpenOptions options;
    options.writable = true;
    test::SimulatedFile::Options file;
    file.max_yields = 4;
    file.seed = seed;
    auto image = open(disk, std::move(options), file);
    ASSERT_OK(image);
    auto base = open(base_disk, OpenOptions{});
    (*image)->set_backing(std::move(*base));
    std::vector<Async<>> tasks;
    std::vector<Bytes> parts;
    for (uint64_t i = 0; i < 8; ++i)
      parts.push_back(pattern(100 + i, 512));
    for (uint64_t i = 0; i < 8; i += 2)
      tasks.push_back(write_one(**image, i * 512, parts[i]));
    ASSERT_OK(run(all_succeed(executor(), std::move(tasks))));
    Bytes want = pattern(1, 8 * kCluster);
    want.resize(kCluster);
    for (uint64_t i = 0; i < 8; i += 2)
      std::copy(parts[i].begin(), parts[i].end(), want.begin() + static_cast<ptrdiff_t>(i * 512));
    EXPECT_EQ(*read(**image, 0, kCluster), want);
    ASSERT_OK(close(**image));
    expect_clean(disk);
  }
}

// The hole of a freed cluster must be finished before somebody else may get the cluster.
TEST_F(Defects, LateHolePunchDoesNotEatNewData) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    auto disk = make_filled(64);
    OpenOptions options;
    options.writable = true;
    test::SimulatedFile::Options file;
    file.max_yields = 10;
    file.seed = seed;
    auto image = open(disk, std::move(options), file);
    ASSERT_OK(image);
    ASSERT_OK(discard(**image, {0, 32 * kCluster}));
    std::vector<Async<>> tasks;
    std::vector<Bytes> parts;
    for (uint64_t i = 0; i < 32; ++i)
      parts.push_back(pattern(200 + i, kCluster));
    tasks.push_back((*image)->flush());
    for (uint64_t i = 0; i < 32; ++i) {
      tasks.push_back(write_one(**image, (64 + i) * kCluster, parts[i]));
      if (i % 8 == 7) tasks.push_back((*image)->flush());
    }
    ASSERT_OK(run(all_succeed(executor(), std::move(tasks))));
    for (uint64_t i = 0; i < 32; ++i)
      EXPECT_EQ(*read(**image, (64 + i) * kCluster, kCluster), parts[i]) << i;
    ASSERT_OK(close(**image));
    expect_clean(disk);
  }
}

TEST_F(Defects, DirtyBitStaysUntilTheImageIsClosed) {
  CreateOptions create;
  create.size = 1 << 20;
  create.lazy_refcounts = true;
  auto disk = make(create);
  auto image = open(disk);
  ASSERT_OK(image);
  EXPECT_FALSE((*image)->info().dirty);
  ASSERT_OK(write(**image, 0, pattern(1, 512)));
  EXPECT_TRUE((*image)->info().dirty);
  EXPECT_EQ(host(*disk, 79, 1)[0] & format::kDirty, format::kDirty);
  ASSERT_OK(flush(**image));
  EXPECT_EQ(host(*disk, 79, 1)[0] & format::kDirty, format::kDirty);
  // A copy taken now is what a crash leaves: it is repaired when it is opened for writing.
  auto crashed = std::make_shared<test::SimulatedDisk>();
  crashed->content = disk->content;
  ASSERT_OK(close(**image));
  EXPECT_EQ(host(*disk, 79, 1)[0] & format::kDirty, 0);
  expect_clean(disk);

  messages.clear();
  auto repaired = open(crashed);
  ASSERT_OK(repaired);
  EXPECT_FALSE(messages.empty());
  EXPECT_FALSE((*repaired)->info().dirty);
  EXPECT_EQ(*read(**repaired, 0, 512), pattern(1, 512));
  ASSERT_OK(close(**repaired));
  expect_clean(crashed);
}

TEST_F(Defects, ResizeKeepsTheCompressionTypeAndTheHeader) {
  CreateOptions create;
  create.size = 1 << 20;
  create.compression = Compression::kZstd;
  create.backing_name = "base";
  create.backing_format = "raw";
  auto disk = make(create);
  auto image = open(disk);
  ASSERT_OK(image);
  ASSERT_OK(run((*image)->truncate(uint64_t{8} << 30, block::Preallocation::kOff)));
  ASSERT_OK(close(**image));
  image = open(disk);
  ASSERT_OK(image);
  ImageInfo info = (*image)->info();
  EXPECT_EQ(info.compression, Compression::kZstd);
  EXPECT_EQ(info.backing_name, "base");
  EXPECT_EQ(info.backing_format, "raw");
  EXPECT_EQ(info.virtual_size, uint64_t{8} << 30);
  ASSERT_OK(close(**image));
}

TEST_F(Defects, AutoclearBitsGoWithTheFirstWritableOpen) {
  auto disk = make_filled(1);
  put64(*disk, 88, uint64_t{1} << 17);
  auto reader = open(disk, OpenOptions{});
  ASSERT_OK(close(**reader));
  EXPECT_EQ(get64(*disk, 88), uint64_t{1} << 17);
  auto writer = open(disk);
  ASSERT_OK(writer);
  EXPECT_EQ(get64(*disk, 88), 0u);
  ASSERT_OK(close(**writer));
}

// An overlay over a base that is full: what was zeroed or discarded there never shows the base
// again.
TEST_F(Defects, ZeroesAndDiscardsHideTheBase) {
  for (bool unmap : {false, true}) {
    auto base_disk = make_filled(16);
    auto disk = make_filled(8);
    auto image = open(disk);
    ASSERT_OK(image);
    auto base = open(base_disk, OpenOptions{});
    ASSERT_OK(base);
    (*image)->set_backing(std::move(*base));
    // Zeroes reach into what only the base has; to discard that is no change.
    const ByteRange range{2 * kCluster, (unmap ? 6 : 8) * kCluster};
    ASSERT_OK(unmap ? discard(**image, range) : zero(**image, range, true));
    EXPECT_EQ(*read(**image, range.offset, range.length), Bytes(range.length, 0));
    EXPECT_EQ(*read(**image, 0, 2 * kCluster), pattern(1, 2 * kCluster));
    ASSERT_OK(flush(**image));
    EXPECT_EQ(*read(**image, range.offset, range.length), Bytes(range.length, 0));
    ASSERT_OK(close(**image));
    expect_clean(disk);
  }
}

TEST_F(Defects, ZeroClustersAreNotReadThrough) {
  auto base_disk = make_filled(16);
  auto disk = make_filled(8);
  put64(*disk, 4 * kCluster, get64(*disk, 4 * kCluster) | format::kZero);
  put64(*disk, 4 * kCluster + 8 * 12, format::kZero);
  auto image = open(disk, OpenOptions{});
  ASSERT_OK(image);
  auto base = open(base_disk, OpenOptions{});
  ASSERT_OK(base);
  (*image)->set_backing(std::move(*base));
  EXPECT_EQ(*read(**image, 0, kCluster), Bytes(kCluster, 0));
  EXPECT_EQ(*read(**image, 12 * kCluster, kCluster), Bytes(kCluster, 0));
  EXPECT_NE(*read(**image, 13 * kCluster, kCluster), Bytes(kCluster, 0));
  ASSERT_OK(close(**image));
}

TEST_F(Defects, LeaksAndFlagsAreRepaired) {
  auto disk = make_filled(8);
  put16(*disk, 2 * kCluster + 2 * 6, 3);   // leak: 3 instead of 1
  put16(*disk, 2 * kCluster + 2 * 20, 1);  // leak: nobody's
  disk->content.resize(64 * kCluster);
  disk->content.write(20 * kCluster, Bytes(kCluster, 0xee));
  messages.clear();
  auto found = check(disk);
  ASSERT_OK(found);
  EXPECT_EQ(found->leaks, 2u);
  EXPECT_EQ(found->corruptions, 1u);  // COPIED though the count is 3
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[0], "Leaked cluster 6 refcount=3 reference=1");
  EXPECT_EQ(messages[1], "Leaked cluster 20 refcount=1 reference=0");
  EXPECT_NE(messages[2].find("ERROR OFLAG_COPIED data cluster: l2_entry="), std::string::npos);
  auto fixed = check(disk, Repair::kLeaks);
  ASSERT_OK(fixed);
  EXPECT_EQ(fixed->leaks_fixed, 2u);
  EXPECT_EQ(fixed->leaks, 0u);
  expect_clean(disk);
  Bytes leaked(kCluster);
  disk->content.read(20 * kCluster, leaked);
  EXPECT_EQ(leaked, Bytes(kCluster)) << "its space is the host's again";

  put16(*disk, 2 * kCluster + 2 * 6, 2);
  put64(*disk, 4 * kCluster, get64(*disk, 4 * kCluster) & ~format::kCopied);
  put16(*disk, 2 * kCluster + 2 * 7, 0);
  fixed = check(disk, Repair::kAll);
  ASSERT_OK(fixed);
  EXPECT_GT(fixed->corruptions_fixed, 0u);
  fixed = check(disk, Repair::kAll);
  ASSERT_OK(fixed);
  expect_clean(disk);
}

}  // namespace
}  // namespace calf::qcow2
