// Repair cut short: whatever a cut or a failing host leaves of `check -r`, the guest reads what it
// read before, and a further repair ends clean.
#include <gtest/gtest.h>

#include "block/base/endian.h"
#include "block/qcow2/format.h"
#include "tests/support/crash_proof.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::CrashProof;
using test::pattern;

constexpr uint64_t kCluster = 1024;
// Where create() puts things: header, refcount table, first block, L1 table, then L2 and data.
constexpr uint64_t kTable = kCluster;
constexpr uint64_t kBlock = 2 * kCluster;
constexpr uint64_t kL1 = 3 * kCluster;
constexpr uint64_t kL2 = 4 * kCluster;

void put64(test::Content& content, uint64_t offset, uint64_t value) {
  be64 raw = value;
  content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&raw), 8));
}
uint64_t get64(test::Content& content, uint64_t offset) {
  be64 raw;
  content.read(offset, std::span(reinterpret_cast<uint8_t*>(&raw), 8));
  return raw;
}
void put16(test::Content& content, uint64_t offset, uint16_t value) {
  be16 raw = value;
  content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&raw), 2));
}

struct Damage {
  const char* name;
  void (*make)(test::Content& content);
};

constexpr Damage kDamages[] = {
    {"leaks",
     [](test::Content& c) {
       put16(c, kBlock + 2 * 20, 3);
       put16(c, kBlock + 2 * 300, 1);
       c.resize(400 * kCluster);
     }},
    {"count_too_low",
     [](test::Content& c) {
       put64(c, kL2 + 8, get64(c, kL2));
       put64(c, kL2 + 16, get64(c, kL2));
     }},
    {"flags",
     [](test::Content& c) {
       put64(c, kL1, get64(c, kL1) & ~format::kCopied);
       for (uint64_t i = 0; i < 50; ++i)
         put64(c, kL2 + 16 * i, get64(c, kL2 + 16 * i) & ~format::kCopied);
     }},
    {"used_cluster_free", [](test::Content& c) { put16(c, kBlock + 2 * 10, 0); }},
    {"no_block", [](test::Content& c) { put64(c, kTable, 0); }},
    {"block_unaligned", [](test::Content& c) { put64(c, kTable, kBlock + 512); }},
    {"block_reserved", [](test::Content& c) { put64(c, kTable, kBlock + 7); }},
    {"block_shared", [](test::Content& c) { put64(c, kTable + 8, kBlock); }},
    {"block_outside", [](test::Content& c) { put64(c, kTable + 8, c.size() + 8 * kCluster); }},
    {"counts_all_zero", [](test::Content& c) { c.write(kBlock, Bytes(kCluster)); }},
    {"counts_garbage",
     [](test::Content& c) {
       c.write(kBlock, pattern(3, kCluster));
       // All that the block counts is in the file, so none is left for a longer file to meet.
       c.resize(512 * kCluster);
     }},
    {"dirty",
     [](test::Content& c) {
       put64(c, 72, format::kDirty);
       put16(c, kBlock + 2 * 12, 0);
     }},
};

class RepairCut : public test::ImageBench, public testing::TestWithParam<Damage> {
 protected:
  Result<Bytes> contents(const CrashProof::Disk& disk) {
    TRY(auto image, open(disk, OpenOptions{}));
    Result<Bytes> out = read(*image, 0, (*image).size());
    EXPECT_OK(close(*image));
    return out;
  }
};

TEST_P(RepairCut, CanBeRunAgain) {
  CreateOptions options;
  options.cluster_size = kCluster;
  options.size = 600 << 10;
  auto disk = make(options);
  auto image = open(disk);
  ASSERT_OK(image);
  ASSERT_OK(write(**image, 0, pattern(1, 300 << 10)));
  ASSERT_OK(close(**image));
  GetParam().make(disk->content);
  const Bytes before = *contents(disk);

  CrashProof proof(*this, disk);
  proof.operation = proof.repair(Repair::kAll);
  proof.look = [&](const CrashProof::Disk& after, bool finished) {
    auto now = contents(after);
    ASSERT_OK(now);
    ASSERT_TRUE(*now == before) << "the guest reads something else";
    if (!finished) {
      // What is repaired by the first pass may need a second, as after a first check.
      ASSERT_OK(check(after, Repair::kAll));
      ASSERT_OK(check(after, Repair::kAll));
    }
    messages.clear();
    expect_clean(after, false);
    now = contents(after);
    ASSERT_OK(now);
    ASSERT_TRUE(*now == before) << "the repair has changed what the guest reads";
    auto again = open(after);
    ASSERT_OK(again);
    ASSERT_OK(write(**again, 400 << 10, pattern(2, 100 << 10)));
    ASSERT_OK(close(**again));
    expect_clean(after, false);
  };
  proof.power_cuts();
  if (!testing::Test::HasFailure()) proof.host_errors();
}

INSTANTIATE_TEST_SUITE_P(Damages, RepairCut, testing::ValuesIn(kDamages),
                         [](const auto& test_info) { return std::string(test_info.param.name); });

}  // namespace
}  // namespace calf::qcow2
