// INT 13h.
#include "firmware/bios/drive.h"

#include <cstring>

#include "firmware/bios/edd.h"
#include "tests/firmware/bios/bios_fixture.h"

namespace calf::firmware {
namespace {

class DiskTest : public BiosFixture {
 protected:
  static constexpr uint16_t kBuffer = 0x8000;
  static constexpr uint16_t kPacket = 0x6000;
  static constexpr uint64_t kMiB = 1 << 20;

  void mark_sectors(MemoryNode& node, uint32_t sector_size = 512) {
    for (uint64_t at = 0; at < node.bytes.size(); at += sector_size) {
      le32 number = static_cast<uint32_t>(at / sector_size);
      std::memcpy(&node.bytes[at], &number, 4);
    }
  }
  uint32_t mark_at(uint32_t address) { return memory.dword(devices::Gpa{address}); }

  void chs(uint8_t function, uint8_t drive, uint16_t cylinder, uint8_t head, uint8_t sector,
           uint8_t count) {
    regs.ax.set_word(static_cast<uint32_t>(function << 8 | count));
    regs.cx.set_high(cylinder);
    regs.cx.set_low(static_cast<uint32_t>(sector | (cylinder >> 8) << 6));
    regs.dx.set_high(head);
    regs.dx.set_low(drive);
    regs.es = 0;
    regs.bx.set_word(kBuffer);
    call(0x13);
  }
  void edd(uint8_t function, uint8_t drive, uint64_t sector, uint16_t count, uint16_t segment = 0,
           uint16_t offset = kBuffer) {
    DiskAddressPacket packet{0x10, 0, count, offset, segment, sector};
    ASSERT_TRUE(memory.write_object(devices::Gpa{kPacket}, packet));
    regs.ax.set_word(static_cast<uint32_t>(function << 8));
    regs.dx.set_low(drive);
    regs.ds = 0;
    regs.si.set_word(kPacket);
    call(0x13);
  }
  uint8_t status() const { return regs.ax.high(); }
};

TEST_F(DiskTest, ReadsByCylinderHeadAndSector) {
  mark_sectors(add_disk(64 * kMiB));
  start();
  chs(0x02, 0x80, 3, 5, 7, 2);
  EXPECT_FALSE(carry());
  EXPECT_EQ(status(), 0);
  EXPECT_EQ(regs.ax.low(), 2);
  uint32_t expected = (3 * 16 + 5) * 63 + 6;
  EXPECT_EQ(mark_at(kBuffer), expected);
  EXPECT_EQ(mark_at(kBuffer + 512), expected + 1);
}

TEST_F(DiskTest, RefusesWhatTheGeometryHasNot) {
  add_disk(64 * kMiB);
  start();
  chs(0x02, 0x80, 0, 0, 0, 1);
  EXPECT_TRUE(carry());
  EXPECT_EQ(status(), 0x01);
  chs(0x02, 0x80, 0, 16, 1, 1);
  EXPECT_EQ(status(), 0x04);
  chs(0x02, 0x80, 1000, 0, 1, 1);
  EXPECT_EQ(status(), 0x04);
  chs(0x02, 0x80, 0, 0, 1, 0);
  EXPECT_EQ(status(), 0x01);
  chs(0x02, 0x81, 0, 0, 1, 1);
  EXPECT_EQ(status(), 0x01);
  EXPECT_EQ(regs.ax.low(), 1);  // not touched: no such drive
}

TEST_F(DiskTest, WritesAndReadsBack) {
  auto& node = add_disk(1 * kMiB);
  start();
  memory.set_dword(devices::Gpa{kBuffer}, 0xCAFEBABE);
  edd(0x43, 0x80, 100, 1);
  EXPECT_FALSE(carry());
  EXPECT_EQ(node.bytes[100 * 512], 0xBE);
  chs(0x03, 0x80, 0, 0, 1, 1);
  EXPECT_FALSE(carry());
  EXPECT_EQ(node.bytes[3], 0xCA);
  EXPECT_EQ(node.flushes, 0);
  regs.ax.set_word(0);
  regs.dx.set_low(0x80);
  call(0x13);
  EXPECT_FALSE(carry());
  EXPECT_EQ(node.flushes, 1);
}

TEST_F(DiskTest, ReadOnlyDisksRefuseWrites) {
  auto& node = add_disk(std::make_unique<MemoryNode>(kMiB), DiskKind::kHardDisk, true);
  start();
  edd(0x43, 0x80, 0, 1);
  EXPECT_TRUE(carry());
  EXPECT_EQ(status(), 0x03);
  EXPECT_EQ(node.writes, 0);
  // The packet's count says how much was done.
  EXPECT_EQ(memory.word(devices::Gpa{kPacket + 2}), 0);
  // The last status is kept.
  regs.ax.set_word(0x0100);
  call(0x13);
  EXPECT_TRUE(carry());
  EXPECT_EQ(status(), 0x03);
}

TEST_F(DiskTest, BuffersMustBeMemory) {
  add_disk(kMiB);
  start();
  edd(0x42, 0x80, 0, 1, 0xA000, 0);  // no display
  EXPECT_EQ(status(), 0x09);
  edd(0x42, 0x80, 0, 2, 0x9FFF, 0xFE10);  // AFE00h, in the hole
  EXPECT_EQ(status(), 0x09);
  edd(0x42, 0x80, 0, 1, 0xF000, 0);  // read-only
  EXPECT_EQ(status(), 0x09);
  EXPECT_EQ(memory.byte(linear(0xF000, 0xFFFE)), 0xFC);
  edd(0x43, 0x80, 0, 1, 0xF000, 0);  // may be read from, though
  EXPECT_FALSE(carry());
}

TEST_F(DiskTest, FlatBuffersReachAboveOneMiB) {
  mark_sectors(add_disk(kMiB));
  start();
  struct {
    DiskAddressPacket packet;
    le64 address;
  } p{{0x18, 0, 3, 0xFFFF, 0xFFFF, 20}, 0x200000};
  ASSERT_TRUE(memory.write_object(devices::Gpa{kPacket}, p));
  regs.ax.set_word(0x4200);
  regs.dx.set_low(0x80);
  regs.si.set_word(kPacket);
  call(0x13);
  EXPECT_FALSE(carry());
  EXPECT_EQ(mark_at(0x200400), 22u);
}

TEST_F(DiskTest, ExtentsAreChecked) {
  add_disk(kMiB);
  start();
  edd(0x42, 0x80, 2047, 1);
  EXPECT_FALSE(carry());
  edd(0x42, 0x80, 2047, 2);
  EXPECT_EQ(status(), 0x04);
  edd(0x42, 0x80, 2049, 0);
  EXPECT_EQ(status(), 0x04);
  edd(0x42, 0x80, UINT64_MAX, 2);
  EXPECT_EQ(status(), 0x04);
  edd(0x44, 0x80, 2000, 48);
  EXPECT_FALSE(carry());
  edd(0x47, 0x80, 2048, 0);
  EXPECT_FALSE(carry());
}

TEST_F(DiskTest, IoErrorsAreReported) {
  auto& node = add_disk(kMiB);
  start();
  node.broken = true;
  edd(0x42, 0x80, 0, 1);
  EXPECT_EQ(status(), 0x10);
  edd(0x43, 0x80, 0, 1);
  EXPECT_EQ(status(), 0xCC);
  EXPECT_NE(logged_.find("the test says no"), std::string::npos);
}

TEST_F(DiskTest, TellsParameters) {
  add_disk(64 * kMiB);
  add_disk(kMiB);
  start();
  regs.ax.set_word(0x0800);
  regs.dx.set_low(0x80);
  call(0x13);
  EXPECT_FALSE(carry());
  EXPECT_EQ(regs.dx.low(), 2);
  EXPECT_EQ(regs.dx.high(), 15);
  EXPECT_EQ(regs.cx.low() & 0x3F, 63);
  unsigned last = regs.cx.high() | (regs.cx.low() & 0xC0u) << 2;
  EXPECT_EQ(last, 131072 / (16 * 63) - 1);

  regs.ax.set_word(0x1500);
  regs.dx.set_low(0x80);
  call(0x13);
  EXPECT_EQ(regs.ax.high(), 3);
  EXPECT_FALSE(carry());
  regs.ax.set_word(0x1500);
  regs.dx.set_low(0x85);
  call(0x13);
  EXPECT_EQ(regs.ax.high(), 0);
  EXPECT_FALSE(carry());
}

TEST_F(DiskTest, TellsExtendedParameters) {
  add_disk(kMiB);
  config_.disks[0].pci_function = 3 << 3;
  start();
  regs.ax.set_word(0x4100);
  regs.bx.set_word(0x55AA);
  regs.dx.set_low(0x80);
  call(0x13);
  EXPECT_FALSE(carry());
  EXPECT_EQ(regs.bx.word(), 0xAA55);
  EXPECT_EQ(regs.ax.high(), 0x30);
  EXPECT_EQ(regs.cx.word() & 1, 1);

  for (uint16_t room : {25, 26, 29, 30, 65, 66, 200}) {
    memory.set_word(devices::Gpa{kPacket}, room);
    memory.set_dword(devices::Gpa{kPacket + 66}, 0x5A5A5A5A);
    regs.ax.set_word(0x4800);
    regs.dx.set_low(0x80);
    regs.si.set_word(kPacket);
    call(0x13);
    EXPECT_EQ(carry(), room < 26) << room;
    if (carry()) continue;
    uint16_t stored = memory.word(devices::Gpa{kPacket});
    EXPECT_EQ(stored, room < 30 ? 26 : room < 66 ? 30 : 66);
    EXPECT_EQ(memory.dword(devices::Gpa{kPacket + 16}), 2048u);
    EXPECT_EQ(memory.word(devices::Gpa{kPacket + 24}), 512);
    EXPECT_EQ(memory.byte(devices::Gpa{kPacket + 66}), 0x5A);
  }
  uint8_t sum = 0;
  for (unsigned i = 30; i < 66; ++i)
    sum = static_cast<uint8_t>(sum + memory.byte(devices::Gpa{kPacket + i}));
  EXPECT_EQ(sum, 0);
  EXPECT_EQ(memory.word(devices::Gpa{kPacket + 30}), 0xBEDD);
}

TEST_F(DiskTest, CdsHaveSectorsOf2048Bytes) {
  auto& node = add_disk(std::make_unique<MemoryNode>(kMiB), DiskKind::kCdrom);
  mark_sectors(node, 2048);
  start();
  edd(0x42, 0xE0, 33, 2);
  EXPECT_FALSE(carry());
  EXPECT_EQ(mark_at(kBuffer), 33u);
  EXPECT_EQ(mark_at(kBuffer + 2048), 34u);
  edd(0x43, 0xE0, 33, 1);
  EXPECT_EQ(status(), 0x03);
  chs(0x02, 0xE0, 0, 0, 1, 1);
  EXPECT_EQ(status(), 0x01);
  regs.ax.set_word(0x4800);
  memory.set_word(devices::Gpa{kPacket}, 30);
  call(0x13);
  EXPECT_EQ(memory.word(devices::Gpa{kPacket + 24}), 2048);
}

TEST_F(DiskTest, LargeDisksAreReachedBeyondTheirCylinders) {
  auto& node = add_disk(kMiB);
  node.tail = 1ull << 42;  // 4 TiB and more
  start();
  edd(0x42, 0x80, node.size() / 512 - 1, 1);
  EXPECT_FALSE(carry());
  EXPECT_EQ(memory.byte(devices::Gpa{kBuffer}), MemoryNode::kTailByte);
  edd(0x42, 0x80, node.size() / 512, 1);
  EXPECT_EQ(status(), 0x04);
  memory.set_word(devices::Gpa{kPacket}, 30);
  regs.ax.set_word(0x4800);
  call(0x13);
  EXPECT_EQ(memory.dword(devices::Gpa{kPacket + 20}), 2u);
  regs.ax.set_word(0x0800);
  regs.dx.set_low(0x80);
  call(0x13);
  EXPECT_EQ(regs.cx.word(), 0xFFFF);
  EXPECT_EQ(regs.dx.high(), 254);
}

TEST_F(DiskTest, GeometryFollowsThePartitionTable) {
  auto& node = add_disk(64 * kMiB);
  // One partition of an sfdisk-made disk: ends at 7/254/63.
  const uint8_t entry[16] = {0x80, 1, 1, 0, 0x0C, 254, 63, 7, 63, 0, 0, 0, 0, 0, 0, 0};
  std::memcpy(&node.bytes[446], entry, 16);
  le32 sectors = 8 * 255 * 63 - 63;
  std::memcpy(&node.bytes[446 + 12], &sectors, 4);
  node.bytes[510] = 0x55;
  node.bytes[511] = 0xAA;
  start();
  regs.ax.set_word(0x0800);
  regs.dx.set_low(0x80);
  call(0x13);
  EXPECT_EQ(regs.dx.high(), 254);
  EXPECT_EQ(regs.cx.low() & 0x3F, 63);
}

TEST(Geometry, GrowsHeadsWithTheDisk) {
  EXPECT_EQ(default_geometry(2048).heads, 16u);
  EXPECT_EQ(default_geometry(1024 * 16 * 63).heads, 16u);
  EXPECT_EQ(default_geometry(1024 * 16 * 63 + 1).heads, 32u);
  EXPECT_EQ(default_geometry(1ull << 40).heads, 255u);
  EXPECT_EQ(default_geometry(1ull << 40).cylinders, 1024u);
  EXPECT_EQ(default_geometry(0).cylinders, 1u);
}

TEST_F(DiskTest, UnknownFunctionsFail) {
  add_disk(kMiB);
  start();
  for (unsigned function : {0x05u, 0x0Au, 0x16u, 0x45u, 0x46u, 0x4Cu, 0x50u, 0xFFu}) {
    regs.ax.set_word(function << 8);
    regs.dx.set_low(0x80);
    call(0x13);
    EXPECT_TRUE(carry()) << function;
    EXPECT_EQ(status(), 0x01) << function;
  }
}

TEST_F(DiskTest, ResetOfTheMissingFloppySucceeds) {
  start();
  regs.ax.set_word(0);
  regs.dx.set_low(0);
  call(0x13);
  EXPECT_FALSE(carry());
}

}  // namespace
}  // namespace calf::firmware
