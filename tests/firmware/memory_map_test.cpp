#include "firmware/memory_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace calf::firmware {
namespace {

struct Line {
  uint64_t start, end;
  E820Type type;
  bool operator==(const Line&) const = default;
};
void PrintTo(const Line& line, std::ostream* out) {
  *out << std::hex << line.start << "-" << line.end << " type " << static_cast<unsigned>(line.type);
}

std::vector<Line> lines(const MemoryMap& map) {
  std::vector<Line> out;
  for (const E820Entry& entry : map.e820()) {
    out.push_back({entry.range().offset, entry.range().end(), entry.kind()});
  }
  return out;
}

constexpr E820Type kRam = E820Type::kRam;
constexpr E820Type kReserved = E820Type::kReserved;

TEST(MemoryMap, SmallMachine) {
  auto map = MemoryMap::build(128 * kOneMiB);
  ASSERT_TRUE(map.ok());
  EXPECT_THAT(lines(*map), testing::ElementsAre(Line{0, 0x9FC00, kRam},                   //
                                                Line{0x9FC00, 0xA0000, kReserved},        //
                                                Line{0xE0000, 0x100000, kReserved},       //
                                                Line{0x100000, 0x8000000, kRam},          //
                                                Line{0xE0000000, 0xE0100000, kReserved},  //
                                                Line{0xFFFBC000, 0x100000000, kReserved}));
  EXPECT_EQ(map->ram_above_4g(), 0u);
  ASSERT_EQ(map->slots().size(), 3u);
  EXPECT_FALSE(map->slots()[1].writable);
  EXPECT_EQ(map->pci_window64().offset, kFourGiB);
}

TEST(MemoryMap, RamContinuesAtFourGiB) {
  auto map = MemoryMap::build(8 * kOneGiB);
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(map->ram_below_4g(), 3 * kOneGiB);
  EXPECT_EQ(map->ram_above_4g(), 5 * kOneGiB);
  EXPECT_EQ(lines(*map).back(), (Line{kFourGiB, 9 * kOneGiB, kRam}));
  const MemorySlot& high = map->slots().back();
  EXPECT_EQ(raw(high.start), kFourGiB);
  EXPECT_EQ(high.backing_offset, 3 * kOneGiB);
  EXPECT_EQ(high.backing_offset + high.length, map->ram_size());
  EXPECT_GE(map->pci_window64().offset, 9 * kOneGiB);
}

TEST(MemoryMap, ExactlyThreeGiBLeavesNothingAbove) {
  auto map = MemoryMap::build(3 * kOneGiB);
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(map->ram_above_4g(), 0u);
  EXPECT_EQ(map->slots().size(), 3u);
}

TEST(MemoryMap, SlotsAreDisjointAndCoverUsableRam) {
  for (uint64_t size :
       {kOneMiB, 2 * kOneMiB, 64 * kOneMiB, 3 * kOneGiB + kPageSize, 70 * kOneGiB}) {
    auto map = MemoryMap::build(size);
    ASSERT_TRUE(map.ok());
    uint64_t last = 0;
    for (const MemorySlot& slot : map->slots()) {
      EXPECT_GE(raw(slot.start), last);
      last = raw(slot.start) + slot.length;
      EXPECT_LE(slot.backing_offset + slot.length, size);
      EXPECT_FALSE((ByteRange{raw(slot.start), slot.length}.overlaps(map->pci_window64())));
    }
    for (const E820Entry& entry : map->e820()) {
      if (entry.kind() != kRam) continue;
      bool covered = false;
      for (const MemorySlot& slot : map->slots()) {
        ByteRange range{raw(slot.start), slot.length};
        covered |= slot.writable && range.contains(entry.range());
      }
      EXPECT_TRUE(covered);
    }
  }
}

TEST(MemoryMap, ReservedPiecesAreCarvedOut) {
  std::vector<ByteRange> reserved = {{0x200000, 0x1000}, {0x201000, 0x1000}, {0x7FFF000, 0x5000}};
  auto map = MemoryMap::build(128 * kOneMiB, reserved);
  ASSERT_TRUE(map.ok());
  EXPECT_THAT(lines(*map),
              testing::IsSupersetOf(
                  {Line{0x100000, 0x200000, kRam}, Line{0x200000, 0x202000, kReserved},
                   Line{0x202000, 0x7FFF000, kRam}, Line{0x7FFF000, 0x8000000, kReserved}}));
  EXPECT_FALSE(map->is_usable_ram({0x1FFFFF, 2}));
  EXPECT_TRUE(map->is_usable_ram({0x1FF000, 0x1000}));
  EXPECT_FALSE(map->is_usable_ram({0x1FF000, 0}));
  EXPECT_FALSE(map->is_usable_ram({0x1FF000, UINT64_MAX}));
}

TEST(MemoryMap, RefusesOddSizes) {
  EXPECT_FALSE(MemoryMap::build(0).ok());
  EXPECT_FALSE(MemoryMap::build(kOneMiB - kPageSize).ok());
  EXPECT_FALSE(MemoryMap::build(64 * kOneMiB + 1).ok());
  EXPECT_FALSE(MemoryMap::build(MemoryMap::kMaxRam + kPageSize).ok());
  std::vector<ByteRange> wraps = {{UINT64_MAX, 2}};
  EXPECT_FALSE(MemoryMap::build(64 * kOneMiB, wraps).ok());
}

}  // namespace
}  // namespace calf::firmware
