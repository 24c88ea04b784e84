// Tables that grow: each operation alone, held against every cut and every host error.
#include <gtest/gtest.h>

#include "block/base/endian.h"
#include "tests/support/crash_proof.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::CrashProof;
using test::pattern;

class Growth : public test::ImageTest {
 protected:
  uint32_t refcount_table_clusters(const CrashProof::Disk& disk) {
    be32 raw;
    disk->content.read(56, {reinterpret_cast<uint8_t*>(&raw), sizeof raw});
    return raw;
  }
  // What was there before stays; where the operation writes, the old bytes or the new ones.
  void expect_old_or_new(const CrashProof::Disk& disk, const Bytes& old, uint64_t offset,
                         const Bytes& added, bool finished) {
    expect_clean(disk, true);
    auto image = open(disk, OpenOptions{});
    ASSERT_OK(image);
    auto now = read(**image, 0, old.size());
    ASSERT_OK(now);
    EXPECT_EQ(*now == old, true) << "what was flushed has changed";
    now = read(**image, offset, added.size());
    ASSERT_OK(now);
    for (size_t at = 0; at < added.size(); at += 512) {
      auto is = [&](const Bytes& bytes) {
        return std::equal(bytes.begin(), bytes.end(), now->begin() + static_cast<ptrdiff_t>(at));
      };
      Bytes want(added.begin() + static_cast<ptrdiff_t>(at),
                 added.begin() + static_cast<ptrdiff_t>(at + 512));
      ASSERT_TRUE(is(want) || (!finished && is(Bytes(512, 0)))) << "sector at " << offset + at;
    }
    ASSERT_OK(close(**image));
  }
  // A disk of 1 MiB that holds `old` gets another size.
  void prove_resize(CreateOptions options, const Bytes& old, uint64_t new_size) {
    constexpr uint64_t kOldSize = 1 << 20;
    options.size = kOldSize;
    auto disk = make(options);
    auto image = open(disk);
    ASSERT_OK(image);
    ASSERT_OK(write(**image, 0, old));
    ASSERT_OK(close(**image));
    CrashProof proof(*this, disk);
    proof.operation = proof.on_image([&](Image& changed) {
      return run(changed.truncate(new_size, block::Preallocation::kOff));
    });
    proof.look = [&](const CrashProof::Disk& after, bool finished) {
      expect_old_or_new(after, old, 512 << 10, Bytes(512, 0), finished);
      auto again = open(after, OpenOptions{});
      ASSERT_OK(again);
      const uint64_t size = (*again)->size();
      EXPECT_TRUE(size == new_size || (!finished && size == kOldSize)) << size;
      ASSERT_OK(close(**again));
    };
    proof.power_cuts();
    if (!HasFailure()) proof.host_errors();
  }
};

// With 512-byte clusters and 64-bit counts a block lasts for 64 clusters.
TEST_F(Growth, RefcountBlocks) {
  CreateOptions options;
  options.cluster_size = 512;
  options.refcount_bits = 64;
  options.size = 1 << 20;
  auto disk = make(options);
  Bytes old = pattern(1, 20 << 10);
  auto image = open(disk);
  ASSERT_OK(image);
  ASSERT_OK(write(**image, 0, old));
  ASSERT_OK(close(**image));
  CrashProof proof(*this, disk);
  Bytes added = pattern(2, 70 << 10);
  proof.operation =
      proof.on_image([&](Image& changed) { return write(changed, 100 << 10, added); });
  proof.look = [&](const CrashProof::Disk& after, bool finished) {
    expect_old_or_new(after, old, 100 << 10, added, finished);
  };
  proof.power_cuts();
  if (!HasFailure()) proof.host_errors();
}

// The table of one cluster is full after 4096 clusters.
TEST_F(Growth, RefcountTable) {
  CreateOptions options;
  options.cluster_size = 512;
  options.refcount_bits = 64;
  options.size = 3 << 20;
  auto disk = make(options);
  Bytes old = pattern(1, 1980 << 10);
  auto image = open(disk);
  ASSERT_OK(image);
  ASSERT_OK(write(**image, 0, old));
  ASSERT_OK(close(**image));
  CrashProof proof(*this, disk);
  proof.random_cuts = 1;
  proof.max_prefixes = 60;
  Bytes added = pattern(2, 20 << 10);
  proof.operation =
      proof.on_image([&](Image& changed) { return write(changed, 2000 << 10, added); });
  proof.look = [&](const CrashProof::Disk& after, bool finished) {
    expect_old_or_new(after, old, 2000 << 10, added, finished);
    if (finished) {
      EXPECT_GT(refcount_table_clusters(after), 1u);
    }
  };
  proof.power_cuts();
  if (!HasFailure()) proof.host_errors();
}

TEST_F(Growth, L1Table) {
  CreateOptions options;
  options.cluster_size = 512;
  prove_resize(options, pattern(1, 64 << 10), 8 << 20);
}

// The new table, 128 clusters in one piece, takes more of them than a refcount block counts, and
// they lie where no block is yet.
TEST_F(Growth, L1TableLongerThanARefcountBlock) {
  CreateOptions options;
  options.cluster_size = 512;
  options.refcount_bits = 64;
  prove_resize(options, pattern(1, 8 << 10), 256 << 20);
}

// A failed switch of the header gives the new table's clusters back.
TEST_F(Growth, L1TableLeaksNothingIfTheSwitchFails) {
  CreateOptions options;
  options.cluster_size = 512;
  options.size = 1 << 20;
  auto disk = make(options);
  bool failed = false;
  test::SimulatedFile::Options file;
  file.fail = [&](test::SimulatedFile::Op op, ByteRange range) {
    if (op != test::SimulatedFile::Op::kWrite || range.offset != 0 || failed) return 0;
    failed = true;
    return EIO;
  };
  OpenOptions open_options;
  open_options.writable = true;
  auto image = open(disk, std::move(open_options), file);
  ASSERT_OK(image);
  ASSERT_FALSE(run((*image)->truncate(8 << 20, block::Preallocation::kOff)).ok());
  EXPECT_TRUE(failed);
  ASSERT_OK(close(**image));
  expect_clean(disk, false);
}

}  // namespace
}  // namespace calf::qcow2
