// Tables that lie: entries that point at metadata, at each other, outside the file or nowhere. The
// guest may get an error, the image its corrupt bit; nothing crashes, hangs or is overwritten.
#include <gtest/gtest.h>

#include "block/base/endian.h"
#include "block/qcow2/format.h"
#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kTable = kCluster;      // refcount table
constexpr uint64_t kBlock = 2 * kCluster;  // its first block
constexpr uint64_t kL1 = 3 * kCluster;
constexpr uint64_t kL2 = 4 * kCluster;
constexpr uint64_t kData = 5 * kCluster;

class HostileTable : public test::ImageTest {
 protected:
  // 1 MiB with one data cluster at guest offset 0.
  void SetUp() override {
    CreateOptions options;
    options.size = 1 << 20;
    disk_ = make(options);
    auto image = open(disk_);
    ASSERT_OK(image);
    ASSERT_OK(write(**image, 0, pattern(1, kCluster)));
    ASSERT_OK(close(**image));
  }
  void put64(uint64_t offset, uint64_t value) {
    be64 raw = value;
    disk_->content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&raw), 8));
  }
  void put16(uint64_t offset, uint16_t value) {
    be16 raw = value;
    disk_->content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&raw), 2));
  }
  Bytes header() {
    Bytes out(kCluster);
    disk_->content.read(0, out);
    return out;
  }
  bool corrupt_bit() { return (header()[79] & format::kCorrupt) != 0; }
  // A write at `offset` must fail with EIO, say so once, set the corrupt bit, turn the image
  // read-only, and leave the header's tables alone.
  void expect_refused(uint64_t offset, const char* message) {
    auto image = open(disk_);
    ASSERT_OK(image);
    Result<void> done = write(**image, offset, pattern(2, 512));
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().sys_errno(), EIO);
    EXPECT_TRUE((*image)->read_only());
    ASSERT_EQ(messages.size(), 1u);
    EXPECT_NE(messages[0].find("Marking image as corrupt: "), std::string::npos) << messages[0];
    EXPECT_NE(messages[0].find(message), std::string::npos) << messages[0];
    EXPECT_TRUE(corrupt_bit());
    EXPECT_FALSE(write(**image, offset, pattern(2, 512)).ok());
    EXPECT_EQ(messages.size(), 1u);
    EXPECT_OK(close(**image));
  }
  void read_everything() {
    auto image = open(disk_, OpenOptions{});
    if (!image.ok()) return;
    for (uint64_t at = 0; at < (*image)->size(); at += kCluster)
      (void)read(**image, at, kCluster);
    (void)run((*image)->map({0, (*image)->size()}));
    EXPECT_OK(close(**image));
    (void)check(disk_);
  }

  std::shared_ptr<test::SimulatedDisk> disk_;
};

TEST_F(HostileTable, DataOnTheHeader) {
  // Cluster 0 cannot be pointed to (0 means nothing), so its neighbours stand for it.
  for (uint64_t target : {kTable, kBlock, kL1, kL2}) {
    SetUp();
    messages.clear();
    put64(kL2, target | format::kCopied);
    read_everything();
    messages.clear();
    expect_refused(0, "Preventing invalid write on metadata (overlaps with ");
  }
}

TEST_F(HostileTable, L2TableOnOtherMetadata) {
  for (uint64_t target : {kTable, kBlock, kL1}) {
    SetUp();
    messages.clear();
    put64(kL1, target | format::kCopied);
    read_everything();
    messages.clear();
    expect_refused(0, "Preventing invalid write on metadata");
  }
}

TEST_F(HostileTable, FreeClustersThatAreNot) {
  // Every refcount is zero: the first allocation would hand out the header.
  for (unsigned i = 0; i < 6; ++i)
    put16(kBlock + 2 * i, 0);
  expect_refused(kCluster, "");
}

TEST_F(HostileTable, AllocationAtOffsetZero) {
  put16(kBlock, 0);
  expect_refused(kCluster, "Preventing invalid allocation of data cluster at offset 0");
}

TEST_F(HostileTable, RefcountBlockUnaligned) {
  put64(kTable, kBlock + 512);
  expect_refused(kCluster, "Refblock offset 0x20200 unaligned (reftable index: 0)");
}

TEST_F(HostileTable, RefcountBlockOutsideTheFile) {
  put64(kTable, uint64_t{1} << 45);
  expect_refused(kCluster, "outside the file");
}

TEST_F(HostileTable, L2OffsetUnaligned) {
  put64(kL1, (kL2 + 512) | format::kCopied);
  auto image = open(disk_);
  ASSERT_OK(image);
  EXPECT_FALSE(read(**image, 0, 512).ok());
  EXPECT_FALSE(write(**image, 0, pattern(1, 512)).ok());
  EXPECT_OK(close(**image));
}

TEST_F(HostileTable, L2OffsetOutsideTheFile) {
  put64(kL1, (uint64_t{1} << 50) | format::kCopied);
  auto image = open(disk_, OpenOptions{});
  ASSERT_OK(image);
  Result<Bytes> bytes = read(**image, 0, 512);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().sys_errno(), EIO);
  EXPECT_OK(close(**image));
}

TEST_F(HostileTable, DataOffsetUnaligned) {
  put64(kL2, (kData + 512) | format::kCopied);
  read_everything();
  messages.clear();
  expect_refused(0,
                 "Cluster allocation offset 0x50200 unaligned (L2 offset: 0x40000, L2 index: 0)");
}

TEST_F(HostileTable, ReservedBitsAreReportedNotFollowed) {
  put64(kL2, kData | format::kCopied | (uint64_t{1} << 58) | 0x100);
  read_everything();
  bool found = false;
  for (const std::string& line : messages)
    found |= line.find("found l2 entry with reserved bits set") != std::string::npos;
  EXPECT_TRUE(found);
}

TEST_F(HostileTable, CompressedAndCopied) {
  put64(kL2, format::kCompressed | format::kCopied | kData);
  read_everything();
  bool found = false;
  for (const std::string& line : messages)
    found |= line.find("copied flag must never be set") != std::string::npos;
  EXPECT_TRUE(found);
}

TEST_F(HostileTable, EveryEntryOnOneCompressedCluster) {
  for (uint64_t i = 0; i < 16; ++i)
    put64(kL2 + 8 * i, format::kCompressed | (uint64_t{127} << 54) | kData);
  read_everything();
}

TEST_F(HostileTable, CompressedDataPastTheEndOfTheFile) {
  put64(kL2, format::kCompressed | (uint64_t{255} << 54) | (disk_->content.size() - 100));
  read_everything();
  put64(kL2, format::kCompressed | ((uint64_t{1} << 54) - 1));
  read_everything();
}

TEST_F(HostileTable, CompressedGarbageIsAnError) {
  put64(kL2, format::kCompressed | kData);
  auto image = open(disk_, OpenOptions{});
  ASSERT_OK(image);
  Result<Bytes> bytes = read(**image, 0, 512);
  EXPECT_FALSE(bytes.ok());
  EXPECT_OK(close(**image));
}

// COPIED says the cluster is ours, the refcount says that somebody else has it, too.
TEST_F(HostileTable, CopiedIsNotBelievedAgainstTheRefcount) {
  put16(kBlock + 2 * 5, 2);
  Bytes before(kCluster);
  disk_->content.read(kData, before);
  auto image = open(disk_);
  ASSERT_OK(image);
  EXPECT_OK(write(**image, 0, pattern(7, 512)));
  EXPECT_EQ(*read(**image, 0, 512), pattern(7, 512));
  EXPECT_OK(close(**image));
  Bytes after(kCluster);
  disk_->content.read(kData, after);
  EXPECT_EQ(before, after);
}

TEST_F(HostileTable, RefcountTableFullOfOneBlock) {
  for (uint64_t i = 0; i < kCluster / 8; ++i)
    put64(kTable + 8 * i, kBlock);
  read_everything();
  messages.clear();
  expect_refused(kCluster, "more than once");
}

// 2000 snapshots whose L1 tables, 32 MiB each, stand in holes of a file that claims 4 EiB.
TEST_F(HostileTable, SnapshotsInHolesCostNothing) {
  CreateOptions options;
  options.size = 1 << 20;
  options.cluster_size = 512;
  disk_ = make(options);
  const uint64_t table = align_up(disk_->content.size(), 512);
  disk_->content.resize(uint64_t{1} << 62);
  for (uint64_t i = 0; i < 2000; ++i) {
    put64(table + 40 * i, (uint64_t{1} << 40) + (i << 26));
    put64(table + 40 * i + 8, uint64_t{4194304} << 32);
  }
  put64(64, table);
  put64(56, (uint64_t{1} << 32) | 2000);
  Result<CheckResult> result = check(disk_);
  ASSERT_OK(result);
  EXPECT_GT(result->check_errors, 0u);
  auto image = open(disk_);
  ASSERT_OK(image);
  EXPECT_EQ((*image)->info().snapshots.size(), 2000u);
  // The table stands where the refcounts say that nothing does.
  EXPECT_FALSE(write(**image, 0, pattern(1, 512)).ok());
  EXPECT_OK(close(**image));
}

TEST_F(HostileTable, L1EntriesAllOnOneTable) {
  CreateOptions options;
  options.size = uint64_t{1} << 40;
  disk_ = make(options);
  auto image = open(disk_);
  ASSERT_OK(image);
  ASSERT_OK(write(**image, 0, pattern(1, 512)));
  ASSERT_OK(close(**image));
  Bytes raw(8);
  disk_->content.read(kL1, raw);
  for (uint64_t i = 0; i < 2048; ++i)
    disk_->content.write(kL1 + 8 * i, raw);
  Result<CheckResult> result = check(disk_);
  ASSERT_OK(result);
  EXPECT_GT(result->corruptions, 0u);
}

}  // namespace
}  // namespace calf::qcow2
