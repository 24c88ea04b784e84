// Check and repair before images that lie: what cannot be counted is not given away, what cannot be
// read is told, and neither time nor space follows what a sparse file claims.
#include <gtest/gtest.h>

#include <zlib.h>

#include "block/base/endian.h"
#include "block/io/sync.h"
#include "block/qcow2/format.h"
#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;
using Disk = std::shared_ptr<test::SimulatedDisk>;

constexpr uint64_t kCluster = 4096;
constexpr uint64_t kTable = kCluster;
constexpr uint64_t kBlock = 2 * kCluster;
constexpr uint64_t kL1 = 3 * kCluster;
constexpr uint64_t kL2 = 4 * kCluster;

class HostileCheck : public test::ImageTest {
 protected:
  // 1 MiB, its first `clusters` clusters written.
  Disk make_filled(unsigned clusters, uint64_t refcount_bits = 16, unsigned version = 3) {
    CreateOptions options;
    options.version = version;
    options.size = 1 << 20;
    options.cluster_size = kCluster;
    options.refcount_bits = refcount_bits;
    auto disk = make(options);
    auto image = open(disk);
    EXPECT_OK(image);
    EXPECT_OK(write(**image, 0, pattern(1, clusters * kCluster)));
    EXPECT_OK(close(**image));
    return disk;
  }
  void put32(const Disk& disk, uint64_t offset, uint32_t value) {
    be32 raw = value;
    disk->content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&raw), 4));
  }
  void put64(const Disk& disk, uint64_t offset, uint64_t value) {
    be64 raw = value;
    disk->content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&raw), 8));
  }
  uint64_t get64(const Disk& disk, uint64_t offset) {
    be64 raw;
    disk->content.read(offset, std::span(reinterpret_cast<uint8_t*>(&raw), 8));
    return raw;
  }
  bool told(std::string_view words) const {
    for (const std::string& line : messages) {
      if (line.find(words) != std::string::npos) return true;
    }
    return false;
  }
  Bytes contents(const Disk& disk, size_t size) {
    auto image = open(disk, OpenOptions{});
    EXPECT_OK(image);
    if (!image.ok()) return {};
    auto bytes = read(**image, 0, size);
    EXPECT_OK(bytes);
    EXPECT_OK(close(**image));
    return bytes.ok() ? *bytes : Bytes();
  }
  // -r all, then clean, and the guest reads what it read.
  void expect_repaired(const Disk& disk, unsigned clusters) {
    Result<CheckResult> result = check(disk, Repair::kAll);
    ASSERT_OK(result);
    EXPECT_GT(result->corruptions_fixed + result->leaks_fixed, 0u);
    expect_clean(disk);
    EXPECT_EQ(contents(disk, clusters * kCluster), pattern(1, clusters * kCluster));
  }
};

// An L2 table that cannot be read refers to clusters that nobody has counted.
TEST_F(HostileCheck, WhatCannotBeReadIsNotGivenAway) {
  for (Repair repair : {Repair::kLeaks, Repair::kAll}) {
    auto disk = make_filled(8);
    put64(disk, kTable, 0);  // wants a rebuild
    test::SimulatedFile::Options file;
    file.fail = [](test::SimulatedFile::Op op, ByteRange range) {
      return op == test::SimulatedFile::Op::kRead && range.contains(kL2) ? EIO : 0;
    };
    const Bytes before = contents(disk, 8 * kCluster);
    const uint64_t size = disk->content.size();
    EXPECT_FALSE(check(disk, repair, file).ok());
    EXPECT_EQ(disk->content.size(), size);
    EXPECT_EQ(contents(disk, 8 * kCluster), before);
    EXPECT_TRUE(told("I/O error in L2 table"));
  }
}

TEST_F(HostileCheck, RefcountTableFullOfOneBlock) {
  auto disk = make_filled(8);
  for (uint64_t i = 0; i < kCluster / 8; ++i)
    put64(disk, kTable + 8 * i, kBlock);
  expect_repaired(disk, 8);
}

TEST_F(HostileCheck, RefcountTableOfNonsense) {
  auto disk = make_filled(8);
  disk->content.write(kTable, pattern(9, kCluster));
  expect_repaired(disk, 8);
}

TEST_F(HostileCheck, RefcountTableThatPointsToEverything) {
  auto disk = make_filled(8);
  for (uint64_t i = 0; i < 13; ++i)
    put64(disk, kTable + 8 * i, i * kCluster);
  expect_repaired(disk, 8);
}

TEST_F(HostileCheck, BlockBeyondWhatAnyFileHolds) {
  auto disk = make_filled(8);
  put64(disk, kTable + 8, ~uint64_t{0xfff});
  put64(disk, kTable + 16, uint64_t{1} << 60);
  const uint64_t size = disk->content.size();
  expect_repaired(disk, 8);
  EXPECT_LT(disk->content.size(), size + (1 << 20));
}

// Two references to one cluster, and no count that says so.
TEST_F(HostileCheck, OneBitCountsDoNotOverflow) {
  auto disk = make_filled(8, 1);
  put64(disk, kL2 + 8, get64(disk, kL2));
  Result<CheckResult> result = check(disk);
  ASSERT_OK(result);
  EXPECT_EQ(result->corruptions, 1u);
  EXPECT_EQ(result->leaks, 1u);
  EXPECT_TRUE(told("ERROR: overflow cluster offset=0x5000"));
  result = check(disk, Repair::kAll);
  ASSERT_OK(result);
  EXPECT_EQ(result->corruptions, 1u) << "nothing can count to two";
}

TEST_F(HostileCheck, ZeroFlagInVersion2) {
  auto disk = make_filled(2, 16, 2);
  put64(disk, kL2, get64(disk, kL2) | format::kZero);
  Result<CheckResult> result = check(disk);
  ASSERT_OK(result);
  EXPECT_EQ(result->corruptions, 1u);
  EXPECT_TRUE(told("found l2 entry with reserved bits set"));
}

TEST_F(HostileCheck, AnL2TableThatIsItsOwnData) {
  auto disk = make_filled(2);
  put64(disk, kL2 + 8, kL2 | format::kCopied);
  Result<CheckResult> result = check(disk, Repair::kAll);
  ASSERT_OK(result);
  auto image = open(disk);
  ASSERT_OK(image);
  // Shared by the repair's count: copied on write, the table stays what it is.
  (void)write(**image, kCluster, pattern(7, kCluster));
  (void)close(**image);
  EXPECT_EQ(contents(disk, kCluster), pattern(1, kCluster));
}

// 8 EiB in clusters of 512 bytes, and references all over it.
TEST_F(HostileCheck, SparseFileOfEightExbibytes) {
  CreateOptions options;
  options.size = 64 << 10;
  options.cluster_size = 512;
  auto disk = make(options);
  auto image = open(disk);
  ASSERT_OK(image);
  ASSERT_OK(write(**image, 0, pattern(1, 32 << 10)));
  ASSERT_OK(close(**image));
  disk->content.resize(uint64_t{1} << 62);
  const uint64_t l1 = get64(disk, 40);
  const uint64_t l2 = get64(disk, l1) & format::kOffsetMask;
  for (uint64_t i = 0; i < 64; ++i)
    put64(disk, l2 + 8 * i, format::kCopied | ((i + 1) << 49));
  // A rebuild would need a table of petabytes: it is refused, not tried.
  EXPECT_FALSE(check(disk, Repair::kAll).ok());
  EXPECT_LT(disk->content.allocated(), uint64_t{1} << 20);
  EXPECT_OK(check(disk));
}

TEST_F(HostileCheck, SnapshotTableBehindTheEndOfTheFile) {
  auto disk = make_filled(4);
  put64(disk, 64, uint64_t{1} << 40);
  put32(disk, 60, 3);
  EXPECT_FALSE(check(disk).ok());
  EXPECT_FALSE(open(disk).ok());
  Result<CheckResult> result = check(disk, Repair::kAll);
  ASSERT_OK(result);
  EXPECT_TRUE(told("Discarding 3 overhanging snapshots"));
  expect_clean(disk);
  EXPECT_EQ(contents(disk, 4 * kCluster), pattern(1, 4 * kCluster));
}

TEST_F(HostileCheck, SnapshotsWithoutNumber) {
  auto disk = make_filled(4);
  const uint64_t table = disk->content.size();
  disk->content.resize(table + kCluster);
  put64(disk, 64, table);
  put32(disk, 60, UINT32_MAX);
  EXPECT_FALSE(check(disk).ok());
  ASSERT_OK(check(disk, Repair::kAll));
  expect_clean(disk);
  EXPECT_EQ(contents(disk, 4 * kCluster), pattern(1, 4 * kCluster));
}

TEST_F(HostileCheck, SnapshotWhoseL1TableIsTheActiveOne) {
  auto disk = make_filled(4);
  const uint64_t table = disk->content.size();
  disk->content.write(table, Bytes(kCluster));
  put64(disk, table, kL1);
  put32(disk, table + 8, 1);
  put64(disk, 64, table);
  put32(disk, 60, 1);
  ASSERT_OK(check(disk, Repair::kAll));
  ASSERT_OK(check(disk, Repair::kAll));
  expect_clean(disk);
  EXPECT_EQ(contents(disk, 4 * kCluster), pattern(1, 4 * kCluster));
}

// ---- Compressed clusters that are not what they should be ----

class HostileDeflate : public HostileCheck {
 protected:
  // The first guest cluster is what `bytes` deflate to.
  Disk make_compressed(const Bytes& bytes) {
    auto disk = make_filled(4);
    Bytes packed(compressBound(static_cast<uLong>(bytes.size())));
    z_stream stream{};
    EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = const_cast<Bytef*>(bytes.data());
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = packed.data();
    stream.avail_out = static_cast<uInt>(packed.size());
    EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
    packed.resize(stream.total_out);
    deflateEnd(&stream);
    const uint64_t place = get64(disk, kL2) & format::kOffsetMask;
    EXPECT_LT(packed.size(), 512u);
    packed.resize(512);
    disk->content.write(place, packed);
    put64(disk, kL2, format::kCompressed | place);
    return disk;
  }
  bool reads(const Disk& disk) {
    auto image = open(disk, OpenOptions{});
    EXPECT_OK(image);
    const bool ok = read(**image, 0, 512).ok();
    EXPECT_OK(close(**image));
    return ok;
  }
};

TEST_F(HostileDeflate, OneClusterIsRight) {
  EXPECT_TRUE(reads(make_compressed(Bytes(kCluster, 'x'))));
}
TEST_F(HostileDeflate, ShortOutputIsAnError) {
  EXPECT_FALSE(reads(make_compressed(Bytes(kCluster - 1, 'x'))));
}

Async<> write_one(Image& image, uint64_t offset, const Bytes& bytes) {
  FlatIo io(std::span<const uint8_t>{bytes});
  co_return co_await image.write(offset, io.slice(), {});
}

// A discard meets a write of the same cluster that is on its way: one after the other, never half.
TEST_F(HostileCheck, DiscardMeetsAWriteInFlight) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    auto disk = make_filled(4);
    OpenOptions options;
    options.writable = true;
    test::SimulatedFile::Options file;
    file.max_yields = 6;
    file.seed = seed;
    auto image = open(disk, std::move(options), file);
    ASSERT_OK(image);
    const Bytes bytes = pattern(5, kCluster);
    std::vector<Async<>> tasks;
    const ByteRange cluster{kCluster, kCluster};
    if (seed % 2 == 0) tasks.push_back((*image)->discard(cluster));
    tasks.push_back(write_one(**image, kCluster, bytes));
    if (seed % 2 != 0) tasks.push_back((*image)->discard(cluster));
    tasks.push_back((*image)->flush());
    ASSERT_OK(run(all_succeed(executor(), std::move(tasks))));
    const Bytes now = *read(**image, kCluster, kCluster);
    EXPECT_TRUE(now == bytes || now == Bytes(kCluster, 0)) << "seed " << seed;
    ASSERT_OK(close(**image));
    expect_clean(disk);
    EXPECT_EQ(contents(disk, kCluster), pattern(1, kCluster));
  }
}

// --- deadlines

TEST_F(HostileCheck, ADeadlineThatIsOverEndsTheCheckOfASoundImage) {
  auto disk = make_filled(4);
  OpenOptions options;
  options.for_check = true;
  auto image = open(disk, options);
  ASSERT_OK(image);
  const FindingSink sink = [this](std::string_view line) { messages.emplace_back(line); };
  auto late = run(qcow2::check(**image, Repair::kNone, sink, Deadline::after({})));
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().kind(), ErrorKind::kCancelled);
  EXPECT_EQ(late.error().sys_errno(), ETIMEDOUT);
  EXPECT_OK(
      run(qcow2::check(**image, Repair::kNone, sink, Deadline::after(std::chrono::hours(1)))));
  EXPECT_OK(close(**image));
  EXPECT_TRUE(messages.empty());
}

// Every entry of the largest L1 table names one L2 table, whose flags are wrong. To read it for
// each would take minutes.
TEST_F(HostileCheck, OneTableUnderAllL1EntriesIsReadOnce) {
  constexpr uint64_t kEntries = format::kMaxL1Bytes / 8;
  constexpr uint64_t kBigL1 = 64 * kCluster;
  auto disk = make_filled(64);
  const uint64_t l2 = get64(disk, kL1);
  put64(disk, kL2, get64(disk, kL2) & ~format::kCopied);
  std::vector<be64> table(kEntries, be64(l2));
  disk->content.write(
      kBigL1, std::span(reinterpret_cast<const uint8_t*>(table.data()), format::kMaxL1Bytes));
  put64(disk, offsetof(format::Header, l1_offset), kBigL1);
  put32(disk, offsetof(format::Header, l1_entries), kEntries);
  OpenOptions options;
  options.for_check = true;
  auto image = open(disk, options);
  ASSERT_OK(image);
  const FindingSink sink = [](std::string_view) {};
  const auto start = Deadline::Clock::now();
  auto checked = run(qcow2::check(**image, Repair::kNone, sink));
  ASSERT_OK(checked);
  EXPECT_GT(checked->corruptions, kEntries);
  EXPECT_LT(Deadline::Clock::now() - start, std::chrono::seconds(20));
  EXPECT_OK(close(**image));
}

}  // namespace
}  // namespace calf::qcow2
