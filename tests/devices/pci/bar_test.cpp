#include "devices/pci/bar.h"

#include "tests/devices/pci/pci_fixture.h"

namespace calf::pci {
namespace {

class BarTest : public PciTest {
 protected:
  static constexpr uint64_t kSize = 0x8000;
  static constexpr uint64_t kBell = 0x3000;

  BarTest() {
    a.add_bar(
        make_bar(0, BarKind::kMemory64, kSize, tag_a, {{kBell, 0, 100}, {kBell + 4, 2, 101}}));
    b.add_bar(make_bar(0, BarKind::kMemory32, kSize, tag_b, {{kBell, 0, 200}}));
    EXPECT_TRUE(bridge->add(a).ok());
    EXPECT_TRUE(bridge->add(b).ok());
    EXPECT_TRUE(bridge->assign_resources(kWindow32, kWindow64).ok());
    a.attach_doorbells();
    b.attach_doorbells();
    at_a = ecam_read(1, 0x10, 4) & ~0xfu;
    at_b = ecam_read(2, 0x10, 4) & ~0xfu;
  }
  void move(uint8_t device, uint32_t address) { ecam_write(device, 0x10, 4, address); }
  size_t bells_in(uint64_t address) {
    size_t count = 0;
    for (auto [at, length, fd] : doorbells.attached())
      count += at >= address && at < address + kSize;
    return count;
  }

  TestFunction a{1}, b{2};
  TagDevice tag_a{0xaa}, tag_b{0xbb};
  uint32_t at_a = 0, at_b = 0;
};

TEST_F(BarTest, Sizing) {
  // As Linux does it: decoding off, ones in, read back, old value.
  ecam_write(1, kRegCommand, 2, 0);
  ecam_write(1, 0x10, 4, 0xffffffff);
  ecam_write(1, 0x14, 4, 0xffffffff);
  EXPECT_EQ(ecam_read(1, 0x10, 4), 0xffff8004u);
  EXPECT_EQ(ecam_read(1, 0x14, 4), 0xffffffffu);
  ecam_write(1, 0x10, 4, at_a);
  ecam_write(1, 0x14, 4, 0);
  EXPECT_EQ(tag_at(at_a), 0xff);
  ecam_write(1, kRegCommand, 2, kCommandMemory);
  EXPECT_EQ(tag_at(at_a), 0xaa);
  EXPECT_EQ(doorbells.attached().size(), 3u);
}

TEST_F(BarTest, SizingWithDecodingOnIsHarmless) {
  ecam_write(2, 0x10, 4, 0xffffffff);
  EXPECT_EQ(ecam_read(2, 0x10, 4), 0xffff8000u);
  EXPECT_EQ(tag_at(0xffff8000), 0xff);
  ecam_write(2, 0x10, 4, at_b);
  EXPECT_EQ(tag_at(at_b), 0xbb);
}

TEST_F(BarTest, DecodingFollowsTheCommandRegister) {
  ecam_write(1, kRegCommand, 2, kCommandBusMaster);
  EXPECT_EQ(tag_at(at_a), 0xff);
  EXPECT_EQ(bells_in(at_a), 0u);
  ecam_write(1, kRegCommand, 1, kCommandBusMaster | kCommandMemory);
  EXPECT_EQ(tag_at(at_a), 0xaa);
  EXPECT_EQ(bells_in(at_a), 2u);
}

TEST_F(BarTest, MovingTakesDoorbellsAlong) {
  move(1, 0xd0000000);
  EXPECT_EQ(tag_at(at_a), 0xff);
  EXPECT_EQ(tag_at(0xd0000000), 0xaa);
  EXPECT_EQ(bells_in(at_a), 0u);
  EXPECT_EQ(doorbells.attached().count({0xd0003000, 0, 100}), 1u);
  EXPECT_EQ(doorbells.attached().count({0xd0003004, 2, 101}), 1u);
  // Above 4 GiB, by halves.
  ecam_write(1, 0x14, 4, 1);
  EXPECT_EQ(tag_at(0x1d0000000), 0xaa);
  EXPECT_EQ(tag_at(0xd0000000), 0xff);
  EXPECT_EQ(doorbells.attached().count({0x1d0003000, 0, 100}), 1u);
}

TEST_F(BarTest, RamAndChipsAreOutOfReach) {
  // RAM, the ECAM window, the IOAPIC, the local APIC, across the end of the window, the last page.
  for (uint32_t address : {0u, 0x00100000u, 0xe0000000u, 0xfec00000u, 0xfee00000u, 0xffff8000u}) {
    move(1, address);
    move(2, address);
    EXPECT_EQ(doorbells.attached().size(), 0u) << address;
    EXPECT_NE(tag_at(address), 0xaa) << address;
  }
  EXPECT_EQ(ecam_read(0, kRegVendorId, 2), 0x1b36u);  // ECAM answers as ever
  ecam_write(1, 0x14, 4, 0xffffffff);
  EXPECT_EQ(doorbells.attached().size(), 0u);
}

TEST_F(BarTest, AnOverlappingBarWaitsForItsPlace) {
  move(1, at_b);
  EXPECT_EQ(tag_at(at_b), 0xbb);
  EXPECT_EQ(bells_in(at_b), 1u);
  EXPECT_EQ(tag_at(at_a), 0xff);
  move(2, 0xd0000000);
  EXPECT_EQ(tag_at(at_b), 0xaa);
  EXPECT_EQ(tag_at(0xd0000000), 0xbb);
  EXPECT_EQ(bells_in(at_b), 2u);
  // A guest that swaps two BARs by two writes.
  move(2, at_b);
  move(1, 0xd0000000);
  EXPECT_EQ(tag_at(at_b), 0xbb);
  EXPECT_EQ(tag_at(0xd0000000), 0xaa);
}

TEST_F(BarTest, WhoStopsWaitingGetsNothing) {
  move(1, at_b);
  ecam_write(1, kRegCommand, 2, 0);
  move(2, 0xd0000000);
  EXPECT_EQ(tag_at(at_b), 0xff);
}

TEST_F(BarTest, DoorbellsWaitUntilOneIsRung) {
  ASSERT_TRUE(bridge->reset().ok());
  EXPECT_TRUE(doorbells.attached().empty());
  move(1, 0xd0000000);
  EXPECT_TRUE(doorbells.attached().empty());
  a.attach_doorbells();
  a.attach_doorbells();
  EXPECT_EQ(doorbells.attached().count({0xd0003000, 0, 100}), 1u);
  EXPECT_EQ(doorbells.attached().count({0xd0003004, 2, 101}), 1u);
  EXPECT_EQ(doorbells.attached().size(), 2u);
}

TEST_F(BarTest, WithoutDoorbellsWritesReachTheDevice) {
  doorbells.refuse(true);
  move(1, 0xd0000000);
  EXPECT_EQ(doorbells.attached().size(), 1u);  // b's
  store(mmio, 0xd0000000 + kBell, 2, 7);
  EXPECT_EQ(tag_a.writes, 1);
  EXPECT_EQ(tag_a.last_offset, kBell);
}

}  // namespace
}  // namespace calf::pci
