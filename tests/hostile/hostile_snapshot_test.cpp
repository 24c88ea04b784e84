// Snapshot tables that lie: each operation refuses, in words, before it changes anything, or works;
// nothing crashes, hangs, takes memory by what the image claims, or is freed twice.
#include <gtest/gtest.h>

#include "block/base/endian.h"
#include "block/qcow2/format.h"
#include "block/qcow2/snapshot.h"
#include "block/qcow2/table_reader.h"
#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

constexpr uint64_t kCluster = 4096;

class HostileSnapshot : public test::ImageTest {
 protected:
  // 64 KiB with data, one snapshot, and a change since.
  void SetUp() override {
    CreateOptions options;
    options.cluster_size = kCluster;
    options.size = 64 << 10;
    disk_ = make(options);
    auto image = open(disk_);
    ASSERT_OK(image);
    ASSERT_OK(write(**image, 0, pattern(1, 32 << 10)));
    ASSERT_OK(run((*image)->create_snapshot({"one"})));
    ASSERT_OK(write(**image, 0, pattern(2, 8 << 10)));
    l1_ = (*image)->snapshots()[0].l1_offset;
    ASSERT_OK(close(**image));
    table_ = get64(64);
    l2_ = get64(l1_) & format::kOffsetMask;
  }
  uint64_t get64(uint64_t offset) {
    be64 raw;
    disk_->content.read(offset, {reinterpret_cast<uint8_t*>(&raw), sizeof raw});
    return raw;
  }
  void put64(uint64_t offset, uint64_t value) {
    be64 raw = value;
    disk_->content.write(offset, {reinterpret_cast<const uint8_t*>(&raw), sizeof raw});
  }
  void put32(uint64_t offset, uint32_t value) {
    be32 raw = value;
    disk_->content.write(offset, {reinterpret_cast<const uint8_t*>(&raw), sizeof raw});
  }
  enum Operation { kCreate, kApply, kDelete };
  Result<void> perform(Operation operation) {
    TRY(auto image, open(disk_));
    Result<void> done;
    if (operation == kCreate) done = run(image->create_snapshot({"two"}));
    if (operation == kApply) done = run(image->apply_snapshot(0));
    if (operation == kDelete) done = run(image->delete_snapshot(0));
    Result<void> closed = close(*image);
    return done.ok() ? std::move(closed) : std::move(done);
  }
  // Refused with `text`, and the disk is what it was, to a reader and in the file's tables.
  void expect_refused(Operation operation, const char* text) {
    Result<void> done = perform(operation);
    ASSERT_FALSE(done.ok());
    EXPECT_NE(done.error().message().find(text), std::string::npos) << done.error().message();
    auto image = open(disk_);
    ASSERT_OK(image);
    EXPECT_EQ((*image)->snapshots().size(), 1u);
    EXPECT_EQ(*read(**image, 0, 8 << 10), pattern(2, 8 << 10));
    ASSERT_OK(close(**image));
  }
  // The snapshot cannot be opened for reading either.
  void expect_not_shown(const char* text) {
    auto image = open(disk_, OpenOptions{});
    ASSERT_OK(image);
    Result<void> shown = run((*image)->show_snapshot(0));
    ASSERT_FALSE(shown.ok());
    EXPECT_NE(shown.error().message().find(text), std::string::npos) << shown.error().message();
    ASSERT_OK(close(**image));
  }

  std::shared_ptr<test::SimulatedDisk> disk_;
  uint64_t table_ = 0;
  uint64_t l1_ = 0;
  uint64_t l2_ = 0;
};

TEST_F(HostileSnapshot, L1TableTooLarge) {
  put32(table_ + 8, (32 << 20) / 8 + 1);
  expect_refused(kApply, "Snapshot L1 table too large");
  expect_refused(kDelete, "Snapshot L1 table too large");
  expect_not_shown("Snapshot L1 table too large");
}

TEST_F(HostileSnapshot, L1TableOutsideTheFile) {
  for (uint64_t offset : {uint64_t{1} << 62, l1_ + 512, uint64_t{0}, uint64_t{1} << 40}) {
    put64(table_, offset);
    expect_refused(kApply, "Snapshot L1 table offset invalid");
    expect_refused(kDelete, "Snapshot L1 table offset invalid");
    expect_not_shown("Snapshot L1 table offset invalid");
  }
}

TEST_F(HostileSnapshot, DiskSizeThatNoImageHas) {
  for (uint64_t size : {uint64_t{1} << 63, uint64_t{1000}, uint64_t{1} << 61}) {
    put64(table_ + 48, size);
    expect_refused(kApply, "Snapshot disk size");
    expect_not_shown("Snapshot disk size");
  }
}

TEST_F(HostileSnapshot, L1EntryOnMetadata) {
  // Header excepted: 0 points nowhere.
  for (uint64_t target : {kCluster, 2 * kCluster, 3 * kCluster, table_, l1_}) {
    put64(l1_, target);
    expect_refused(kApply, "is part of the ");
    expect_refused(kDelete, "is part of the ");
  }
}

TEST_F(HostileSnapshot, DataClusterOnMetadata) {
  for (uint64_t target : {kCluster, 2 * kCluster, 3 * kCluster, table_, l1_}) {
    put64(l2_, target);
    expect_refused(kApply, "is part of the ");
    expect_refused(kDelete, "is part of the ");
  }
}

TEST_F(HostileSnapshot, ReferenceToAFreeCluster) {
  put64(l2_, 1000 * kCluster);
  expect_refused(kApply, "in use but not counted");
  expect_refused(kDelete, "in use but not counted");
}

TEST_F(HostileSnapshot, UnalignedEntries) {
  put64(l2_, 0x5200);
  expect_refused(kApply, "Invalid cluster entry");
  expect_refused(kDelete, "Invalid cluster entry");
  put64(l1_, l2_ + 512);
  expect_refused(kApply, "unaligned");
  expect_refused(kDelete, "unaligned");
}

TEST_F(HostileSnapshot, EveryL1EntryOnOneTable) {
  put32(table_ + 8, kCluster / 8);
  for (uint64_t i = 0; i < kCluster / 8; ++i)
    put64(l1_ + 8 * i, l2_);
  expect_refused(kApply, "points to a table of another entry");
  expect_refused(kDelete, "points to a table of another entry");
}

// COPIED in a snapshot's tables is not accurate; after apply it must be.
TEST_F(HostileSnapshot, CopiedFlagsOfASnapshotAreNotBelieved) {
  put64(l1_, l2_ | format::kCopied);
  for (uint64_t i = 0; i < 8; ++i)
    put64(l2_ + 8 * i, get64(l2_ + 8 * i) | format::kCopied);
  ASSERT_OK(perform(kApply));
  expect_clean(disk_);
  auto image = open(disk_);
  ASSERT_OK(image);
  ASSERT_OK(write(**image, 0, pattern(3, 32 << 10)));
  ASSERT_OK(close(**image));
  image = open(disk_, OpenOptions{});
  ASSERT_OK(image);
  ASSERT_OK(run((*image)->show_snapshot(0)));
  EXPECT_EQ(*read(**image, 0, 32 << 10), pattern(1, 32 << 10));
  ASSERT_OK(close(**image));
}

// All counts are at their limit: one more reference would wrap.
TEST_F(HostileSnapshot, RefcountsThatCannotGrow) {
  for (uint64_t bits : {1, 2}) {
    CreateOptions options;
    options.cluster_size = kCluster;
    options.refcount_bits = bits;
    options.size = 64 << 10;
    disk_ = make(options);
    auto image = open(disk_);
    ASSERT_OK(image);
    ASSERT_OK(write(**image, 0, pattern(1, 32 << 10)));
    // Several compressed clusters in one: a snapshot counts each of them.
    ASSERT_OK(write_compressed(**image, 40 << 10, Bytes(kCluster, 1)));
    ASSERT_OK(write_compressed(**image, 44 << 10, Bytes(kCluster, 2)));
    Result<void> done = run((*image)->create_snapshot({"one"}));
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().sys_errno(), EINVAL);
    EXPECT_TRUE((*image)->snapshots().empty());
    ASSERT_OK(write(**image, 0, pattern(4, 4096)));
    ASSERT_OK(close(**image));
    expect_clean(disk_);
  }
}

TEST_F(HostileSnapshot, VmStateSizeIsOnlyANumber) {
  put64(table_ + 40, UINT64_MAX);
  ASSERT_OK(perform(kApply));
  ASSERT_OK(perform(kDelete));
  expect_clean(disk_);
}

// A length that is wrong says nothing about the snapshot's data: that stays, under no name.
TEST_F(HostileSnapshot, ARepairOfTooMuchExtraDataKeepsTheSnapshot) {
  for (uint32_t extra : {format::kMaxSnapshotExtra + 1, 65536u, 1u << 20}) {
    SetUp();
    put32(table_ + 36, extra);
    auto refused = open(disk_);
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message().find("Too much extra metadata"), std::string::npos);
    Result<CheckResult> result = check(disk_, Repair::kAll);
    ASSERT_OK(result);
    EXPECT_GE(result->corruptions_fixed, 1u);
    // COPIED was cleared where the old table seemed to be; the second run sets it.
    ASSERT_OK(check(disk_, Repair::kAll));
    expect_clean(disk_);
    auto image = open(disk_, OpenOptions{});
    ASSERT_OK(image);
    ASSERT_EQ((*image)->snapshots().size(), 1u) << extra;
    ASSERT_OK(run((*image)->show_snapshot(0)));
    EXPECT_EQ(*read(**image, 0, 32 << 10), pattern(1, 32 << 10)) << extra;
    ASSERT_OK(close(**image));
    EXPECT_OK(perform(kDelete));
    expect_clean(disk_);
  }
}

TEST_F(HostileSnapshot, NamesEndAtAZeroByte) {
  // The ID "1" and the name "one", behind 24 bytes of extra data.
  const uint64_t name = table_ + 40 + 24 + 1;
  disk_->content.write(name + 1, Bytes(1));
  auto image = open(disk_, OpenOptions{});
  ASSERT_OK(image);
  EXPECT_EQ((*image)->snapshots()[0].id, "1");
  EXPECT_EQ((*image)->snapshots()[0].name, "o");
  ASSERT_OK(close(**image));
}

// Entries behind the largest number go by a smaller number in the header: the table stays.
TEST_F(HostileSnapshot, EntriesThatGoNeedNoNewTable) {
  CreateOptions options;
  options.version = 2;  // where entries of nothing but zeroes are complete
  options.cluster_size = kCluster;
  options.size = 64 << 10;
  disk_ = make(options);
  const uint64_t table = align_up(disk_->content.size(), kCluster);
  disk_->content.resize(table + 40 * (format::kMaxSnapshots + 2));
  put64(64, table);
  put32(60, format::kMaxSnapshots + 2);
  Result<CheckResult> result = check(disk_, Repair::kAll);
  ASSERT_OK(result);
  EXPECT_GE(result->corruptions_fixed, 2u);
  expect_clean(disk_);
  EXPECT_EQ(get64(64), table);
  EXPECT_EQ(get64(60) >> 32, format::kMaxSnapshots);
}

// What is passed over does not count as the table's, and only who asks gets zeroes behind the end.
TEST_F(HostileSnapshot, TheLimitIsForWhatIsTaken) {
  auto disk = std::make_shared<test::SimulatedDisk>();
  disk->content.write(0, pattern(1, 200'000));
  HostFile file(
      std::make_unique<test::SimulatedFile>(executor(), disk, test::SimulatedFile::Options{}),
      false);
  TableReader reader(file, 8, 150'000);
  const uint8_t* bytes = nullptr;
  ASSERT_TRUE(*run(reader.take(70'001, &bytes)));
  EXPECT_TRUE(std::equal(bytes, bytes + 70'001, pattern(1, 200'000).begin() + 8));
  reader.align();
  EXPECT_EQ(reader.used(), 70'008u);
  reader.skip(129'000);
  EXPECT_EQ(reader.used(), 199'008u);
  EXPECT_FALSE(*run(reader.take(1'000, &bytes))) << "behind the end";
  ASSERT_TRUE(*run(reader.take_padded(1'000, &bytes)));
  EXPECT_EQ(bytes[983], pattern(1, 200'000)[199'999]);
  EXPECT_EQ(bytes[984], 0);
  EXPECT_EQ(bytes[999], 0);
  EXPECT_FALSE(*run(reader.take_padded(79'000, &bytes))) << "above the limit";
  EXPECT_TRUE(*run(reader.take_padded(78'000, &bytes)));
}

TEST_F(HostileSnapshot, LargestIdThereIs) {
  std::vector<SnapshotInfo> list(2);
  list[0].id = "18446744073709551615";
  list[1].id = "0";
  std::string id = next_snapshot_id(list);
  EXPECT_NE(id, list[0].id);
  EXPECT_NE(id, list[1].id);
}

}  // namespace
}  // namespace calf::qcow2
