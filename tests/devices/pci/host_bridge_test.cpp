#include "devices/pci/host_bridge.h"

#include "tests/devices/pci/pci_fixture.h"

namespace calf::pci {
namespace {

class HostBridgeTest : public PciTest {};

TEST_F(HostBridgeTest, IsDeviceZeroAndAHostBridge) {
  EXPECT_EQ(cf8_read(0, kRegClass + 1, 2), 0x0600u);
  EXPECT_EQ(cf8_read(1, 0, 4), 0xffffffffu);
}

TEST_F(HostBridgeTest, BothWaysShowTheSame) {
  TestFunction function(0x1111);
  TagDevice tag(1);
  function.add_bar(make_bar(0, BarKind::kMemory64, 0x4000, tag));
  function.add_msix(std::move(*Msix::create(msi, 3, log)), 0, 0, 0x1000);
  ASSERT_TRUE(bridge->add(function, uint8_t{5}).ok());
  ASSERT_TRUE(bridge->assign_resources(kWindow32, kWindow64).ok());
  for (unsigned size : {1u, 2u, 4u}) {
    for (unsigned offset = 0; offset < kConfigSize; offset += size)
      EXPECT_EQ(cf8_read(5, offset, size), ecam_read(5, offset, size)) << offset;
  }
  ecam_write(5, kRegInterruptLine, 1, 0x5a);
  EXPECT_EQ(cf8_read(5, kRegInterruptLine, 1), 0x5au);
  cf8_write(5, kRegInterruptLine, 1, 0xa5);
  EXPECT_EQ(ecam_read(5, kRegInterruptLine, 1), 0xa5u);
}

TEST_F(HostBridgeTest, AddressPortTakesDwordsOnly) {
  out(0xcf8, 4, 0x80000004);
  EXPECT_EQ(in(0xcf8, 4), 0x80000004u);
  out(0xcf8, 2, 0xffff);
  out(0xcfa, 2, 0xffff);
  out(0xcf8, 1, 0xff);
  EXPECT_EQ(in(0xcf8, 4), 0x80000004u);
  EXPECT_EQ(in(0xcf8, 2), 0xffffu);
  // Reserved bits do not stick.
  out(0xcf8, 4, 0xffffffff);
  EXPECT_EQ(in(0xcf8, 4), 0x80fffffcu);
}

TEST_F(HostBridgeTest, DataPortIsDeadWithoutEnable) {
  out(0xcf8, 4, 0x00000000);
  EXPECT_EQ(in(0xcfc, 4), 0xffffffffu);
  out(0xcf8, 4, 0x80000000);
  EXPECT_NE(in(0xcfc, 4), 0xffffffffu);
  // Past the dword there is nothing.
  EXPECT_EQ(in(0xcff, 2), 0xffffu);
  // Other buses and functions do not exist.
  out(0xcf8, 4, 0x80010000);
  EXPECT_EQ(in(0xcfc, 4), 0xffffffffu);
  out(0xcf8, 4, 0x80000100);
  EXPECT_EQ(in(0xcfc, 4), 0xffffffffu);
}

TEST_F(HostBridgeTest, ResetControlSharesThePorts) {
  EXPECT_EQ(in(0xcf9, 1), 0x42u);
  out(0xcf9, 1, 6);
  EXPECT_EQ(reset_control.last_value, 6);
  EXPECT_EQ(reset_control.last_offset, 0u);
}

TEST_F(HostBridgeTest, EcamTakesOddAccesses) {
  std::array<uint8_t, 8> data{};
  mmio.read(kEcamBase, data);  // a qword
  EXPECT_EQ(data[0], ecam_read(0, 0, 1));
  EXPECT_EQ(data[4], ecam_read(0, 4, 1));
  std::array<uint8_t, 3> cut{};  // what a page boundary leaves of it
  mmio.read(kEcamBase + 1, cut);
  EXPECT_EQ(cut[1], ecam_read(0, 2, 1));
  EXPECT_EQ(ecam_read(0, 0x100, 4), 0xffffffffu);
}

TEST_F(HostBridgeTest, SlotsAreHandedOutAndRefused) {
  TestFunction a(1), b(2), c(3);
  EXPECT_EQ(bridge->add(a)->device, 1);
  EXPECT_EQ(bridge->add(b, uint8_t{2})->device, 2);
  EXPECT_EQ(bridge->add(c, uint8_t{2}).error().kind(), ErrorKind::kExists);
  EXPECT_EQ(bridge->add(c, uint8_t{32}).error().kind(), ErrorKind::kInvalid);
  EXPECT_EQ(bridge->add(c)->device, 3);
}

TEST_F(HostBridgeTest, TheBusHas31Places) {
  std::vector<std::unique_ptr<TestFunction>> functions;
  for (int i = 0; i < 31; ++i) {
    functions.push_back(std::make_unique<TestFunction>(1));
    ASSERT_TRUE(bridge->add(*functions.back()).ok());
  }
  TestFunction one_more(1);
  EXPECT_EQ(bridge->add(one_more).error().kind(), ErrorKind::kResource);
}

TEST_F(HostBridgeTest, ResourcesAreAssignedBeforeTheGuestStarts) {
  TestFunction small(1), large(2);
  TagDevice tags[] = {TagDevice(1), TagDevice(2), TagDevice(3)};
  small.add_bar(make_bar(0, BarKind::kMemory32, 0x1000, tags[0]));
  small.add_bar(make_bar(1, BarKind::kMemory64, 0x8000, tags[1]));
  large.add_bar(make_bar(2, BarKind::kMemory64, 0x40000000, tags[2]));  // not below 4 GiB
  small.use_intx();
  large.use_intx();
  ASSERT_TRUE(bridge->add(small).ok());
  ASSERT_TRUE(bridge->add(large).ok());
  ASSERT_TRUE(bridge->assign_resources(kWindow32, kWindow64).ok());

  EXPECT_EQ(tag_at(ecam_read(1, 0x10, 4)), 1);
  uint32_t low = ecam_read(1, 0x14, 4);
  EXPECT_EQ(low & 0xf, 4u);
  EXPECT_EQ(ecam_read(1, 0x18, 4), 0u);
  EXPECT_EQ(tag_at(low & ~0xfu), 2);
  EXPECT_EQ(tag_at((low & ~0xfu) + 0x7fff), 2);
  EXPECT_EQ(ecam_read(2, 0x1c, 4), 1u);  // above 4 GiB
  EXPECT_EQ(tag_at(uint64_t{ecam_read(2, 0x1c, 4)} << 32 | (ecam_read(2, 0x18, 4) & ~0xfu)), 3);
  EXPECT_EQ(ecam_read(1, kRegCommand, 2), kCommandMemory);
  EXPECT_EQ(ecam_read(1, kRegInterruptLine, 2), 0x010bu);  // device 1: input 1, GSI 11
  EXPECT_EQ(ecam_read(2, kRegInterruptLine, 2), 0x010au);
  auto routes = bridge->intx_routes();
  ASSERT_EQ(routes.size(), 2u);
  EXPECT_EQ(routes[0].gsi, 11);
  EXPECT_EQ(routes[1].address, (Address{0, 2, 0}));
}

TEST_F(HostBridgeTest, WindowsTooSmallAreAnError) {
  TestFunction function(1);
  TagDevice tag(1);
  function.add_bar(make_bar(0, BarKind::kMemory32, 0x10000, tag));
  ASSERT_TRUE(bridge->add(function).ok());
  EXPECT_EQ(bridge->assign_resources({0xc0000000, 0x8000}, kWindow64).error().kind(),
            ErrorKind::kResource);
  EXPECT_EQ(bridge->assign_resources({UINT64_MAX, 2}, {}).error().kind(), ErrorKind::kInvalid);
}

TEST_F(HostBridgeTest, ResetBringsBackWhatFirmwareSetUp) {
  TestFunction function(1);
  TagDevice tag(9);
  function.add_bar(make_bar(0, BarKind::kMemory32, 0x1000, tag));
  function.use_intx();
  ASSERT_TRUE(bridge->add(function).ok());
  ASSERT_TRUE(bridge->assign_resources(kWindow32, kWindow64).ok());
  uint32_t at = ecam_read(1, 0x10, 4);
  ecam_write(1, 0x10, 4, at + 0x10000);
  ecam_write(1, kRegCommand, 2, kCommandMemory | kCommandIntxDisable | kCommandBusMaster);
  ecam_write(1, kRegInterruptLine, 1, 0);
  EXPECT_EQ(tag_at(at + 0x10000), 9);
  ASSERT_TRUE(bridge->reset().ok());
  EXPECT_EQ(function.resets, 1);
  EXPECT_EQ(ecam_read(1, 0x10, 4), at);
  EXPECT_EQ(ecam_read(1, kRegCommand, 2), kCommandMemory);
  EXPECT_EQ(ecam_read(1, kRegInterruptLine, 1), 11u);
  EXPECT_EQ(tag_at(at), 9);
  EXPECT_EQ(tag_at(at + 0x10000), 0xff);
}

TEST_F(HostBridgeTest, FirmwareReadsAndWritesToo) {
  EXPECT_EQ(bridge->read_config({0, 0, 0}, 0, 4), cf8_read(0, 0, 4));
  EXPECT_EQ(bridge->read_config({0, 9, 0}, 0, 2), 0xffffffffu);
  EXPECT_EQ(bridge->read_config({1, 0, 0}, 0, 4), 0xffffffffu);
  EXPECT_EQ(bridge->read_config({0, 0, 0}, 3, 2), 0xffffffffu);  // crosses a dword
  EXPECT_EQ(bridge->read_config({0, 0, 0}, 256, 4), 0xffffffffu);
}

}  // namespace
}  // namespace calf::pci
