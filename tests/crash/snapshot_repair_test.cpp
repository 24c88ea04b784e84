// The repair of a damaged snapshot table, cut short: the disk and the snapshot hold what they held,
// and a further repair ends clean.
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
// Of an entry: where the length of its extra data stands, and where that begins.
constexpr uint64_t kExtraSize = 36;
constexpr uint64_t kExtra = 40;

struct Damage {
  const char* name;
  // `table`: the snapshot table with one entry.
  void (*make)(test::Content& content, uint64_t table);
  // Flags that the first run clears where the table seemed to be are set by the second.
  unsigned runs;
};

void put32(test::Content& content, uint64_t offset, uint32_t value) {
  be32 raw = value;
  content.write(offset, {reinterpret_cast<const uint8_t*>(&raw), sizeof raw});
}

constexpr Damage kDamages[] = {
    // As version 2 writes it: the ID follows at once.
    {"no_extra_data",
     [](test::Content& content, uint64_t table) {
       const uint32_t extra = 24;
       Bytes names(16);
       content.read(table + kExtra + extra, names);
       content.write(table + kExtra, names);
       put32(content, table + kExtraSize, 0);
     },
     1},
    {"too_much_extra_data",
     [](test::Content& content, uint64_t table) {
       put32(content, table + kExtraSize, format::kMaxSnapshotExtra + 1);
     },
     2},
};

class SnapshotRepairCut : public test::ImageBench, public testing::TestWithParam<Damage> {
 protected:
  // Of the disk, or of its one snapshot.
  Bytes content(const CrashProof::Disk& disk, bool of_snapshot) {
    auto image = open(disk, OpenOptions{});
    EXPECT_OK(image);
    if (!image.ok()) return {};
    EXPECT_EQ((*image)->snapshots().size(), 1U);
    if (of_snapshot && !(*image)->snapshots().empty()) {
      EXPECT_OK(run((*image)->show_snapshot(0)));
    }
    auto bytes = read(**image, 0, (*image)->size());
    EXPECT_OK(bytes);
    EXPECT_OK(close(**image));
    return bytes.ok() ? std::move(*bytes) : Bytes{};
  }
};

TEST_P(SnapshotRepairCut, CanBeRunAgain) {
  CreateOptions options;
  options.cluster_size = kCluster;
  options.size = 64 << 10;
  auto disk = make(options);
  const Bytes first = pattern(1, 64 << 10);
  Bytes now = pattern(2, 8 << 10);
  auto image = open(disk);
  ASSERT_OK(image);
  ASSERT_OK(write(**image, 0, first));
  ASSERT_OK(run((*image)->create_snapshot({"one"})));
  ASSERT_OK(write(**image, 0, now));
  ASSERT_OK(close(**image));
  now.insert(now.end(), first.begin() + static_cast<ptrdiff_t>(now.size()), first.end());
  be64 table;
  disk->content.read(64, {reinterpret_cast<uint8_t*>(&table), sizeof table});
  GetParam().make(disk->content, table);
  const Result<CheckResult> found = check(disk);
  ASSERT_TRUE(!found.ok() || found->corruptions != 0) << "there is no damage";

  CrashProof proof(*this, disk);
  const auto once = proof.repair(Repair::kAll);
  proof.operation = [&](const CrashProof::Disk& changed, const test::SimulatedFile::Options& file) {
    Result<void> done;
    for (unsigned i = 0; i < GetParam().runs; ++i)
      done = once(changed, file);
    return done;
  };
  proof.look = [&](const CrashProof::Disk& after, bool finished) {
    if (!finished) {
      ASSERT_OK(check(after, Repair::kAll));
      ASSERT_OK(check(after, Repair::kAll));
    }
    messages.clear();
    expect_clean(after, false);
    EXPECT_TRUE(content(after, false) == now) << "the disk has changed";
    EXPECT_TRUE(content(after, true) == first) << "the snapshot has changed";
    auto again = open(after);
    ASSERT_OK(again);
    ASSERT_OK(run((*again)->delete_snapshot(0)));
    ASSERT_OK(close(**again));
    expect_clean(after, false);
  };
  proof.power_cuts();
  if (!testing::Test::HasFailure()) proof.host_errors();
}

INSTANTIATE_TEST_SUITE_P(Damages, SnapshotRepairCut, testing::ValuesIn(kDamages),
                         [](const auto& test_info) { return std::string(test_info.param.name); });

}  // namespace
}  // namespace calf::qcow2
