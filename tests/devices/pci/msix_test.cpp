#include "devices/pci/msix.h"

#include "tests/devices/pci/pci_fixture.h"

namespace calf::pci {
namespace {

class MsixTest : public PciTest {
 protected:
  static constexpr uint16_t kVectors = 3;
  static constexpr uint64_t kAddress = 0xfee01000;

  MsixTest() {
    function.add_msix(std::move(*Msix::create(msi, kVectors, log)), 0, 0x4000, 0x5000);
    EXPECT_TRUE(bridge->add(function).ok());
    capability = ecam_read(1, kRegCapabilities, 1);
  }
  void set_control(uint32_t bits) { ecam_write(1, capability + 2, 2, bits); }
  void write_word(uint64_t offset, uint32_t value) {
    std::array<uint8_t, 4> data{static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8),
                                static_cast<uint8_t>(value >> 16),
                                static_cast<uint8_t>(value >> 24)};
    function.msix()->write_table(offset, data);
  }
  uint32_t read_word(uint64_t offset) {
    std::array<uint8_t, 4> d{};
    function.msix()->read_table(offset, d);
    return d[0] | uint32_t{d[1]} << 8 | uint32_t{d[2]} << 16 | uint32_t{d[3]} << 24;
  }
  // As a driver programs a vector.
  void program(uint16_t vector, uint32_t data, bool masked = false) {
    write_word(16u * vector + 12, 1);
    write_word(16u * vector + 0, static_cast<uint32_t>(kAddress));
    write_word(16u * vector + 4, static_cast<uint32_t>(kAddress >> 32));
    write_word(16u * vector + 8, data);
    write_word(16u * vector + 12, masked ? 1 : 0);
  }
  void mask(uint16_t vector, bool masked) { write_word(16u * vector + 12, masked ? 1 : 0); }
  uint8_t pending() {
    uint8_t byte = 0xff;
    function.msix()->read_pba(0, {&byte, 1});
    return byte;
  }
  void trigger(uint16_t vector) { function.msix()->trigger(vector); }

  TestFunction function{1};
  unsigned capability = 0;
};

TEST_F(MsixTest, Capability) {
  EXPECT_EQ(ecam_read(1, capability, 1), kCapMsix);
  EXPECT_EQ(ecam_read(1, capability + 2, 2), kVectors - 1u);
  EXPECT_EQ(ecam_read(1, capability + 4, 4), 0x4000u);
  EXPECT_EQ(ecam_read(1, capability + 8, 4), 0x5000u);
  set_control(0xffff);
  EXPECT_EQ(ecam_read(1, capability + 2, 2), 0xc000u + kVectors - 1u);
}

TEST_F(MsixTest, VectorsAreMaskedAtFirst) {
  for (uint16_t v = 0; v < kVectors; ++v)
    EXPECT_EQ(read_word(16u * v + 12), 1u);
  EXPECT_EQ(read_word(16u * kVectors + 12), 0u);  // behind the table
}

TEST_F(MsixTest, DeliversToItsMessage) {
  program(1, 0x41);
  trigger(1);
  EXPECT_EQ(msi.total(), 0);  // not enabled
  set_control(kMsixControlEnable);
  EXPECT_EQ(msi.total(), 0);  // what was raised before is not remembered
  trigger(1);
  EXPECT_EQ(msi.count(kAddress, 0x41), 1);
  trigger(kVectors);  // no such vector
  trigger(0xffff);
  EXPECT_EQ(msi.total(), 1);
}

TEST_F(MsixTest, MaskedVectorsPend) {
  program(0, 0x40);
  program(2, 0x42, true);
  set_control(kMsixControlEnable);
  trigger(2);
  trigger(2);
  EXPECT_EQ(pending(), 0b100);
  EXPECT_EQ(msi.total(), 0);
  mask(2, false);
  EXPECT_EQ(msi.count(kAddress, 0x42), 1);  // two became one
  EXPECT_EQ(pending(), 0);
}

TEST_F(MsixTest, FunctionMaskHoldsEverything) {
  program(0, 0x40);
  program(1, 0x41);
  program(2, 0x42, true);
  set_control(kMsixControlEnable | kMsixControlFunctionMask);
  trigger(0);
  trigger(2);
  EXPECT_EQ(pending(), 0b101);
  set_control(kMsixControlEnable);
  EXPECT_EQ(msi.count(kAddress, 0x40), 1);
  EXPECT_EQ(msi.total(), 1);
  EXPECT_EQ(pending(), 0b100);
}

TEST_F(MsixTest, AMessageChangedUnderTheMaskCounts) {
  set_control(kMsixControlEnable);
  program(0, 0x40, true);
  trigger(0);
  program(0, 0x50, false);
  EXPECT_EQ(msi.count(kAddress, 0x40), 0);
  EXPECT_EQ(msi.count(kAddress, 0x50), 1);
}

TEST_F(MsixTest, RoutesAreProgrammedOnlyWhenTheyChange) {
  set_control(kMsixControlEnable);
  program(0, 0x40);
  EXPECT_EQ(msi.programmed(), 1);
  mask(0, true);
  mask(0, false);
  program(0, 0x40);
  EXPECT_EQ(msi.programmed(), 1);
  program(0, 0x41);
  EXPECT_EQ(msi.programmed(), 2);
}

TEST_F(MsixTest, OddTableAccessesChangeNothing) {
  program(0, 0x40, true);
  uint8_t byte = 0xee;
  function.msix()->write_table(8, std::span<const uint8_t>(&byte, 1));
  std::array<uint8_t, 4> word{0xee, 0xee, 0xee, 0xee};
  function.msix()->write_table(2, word);
  EXPECT_EQ(read_word(8), 0x40u);
  std::array<uint8_t, 8> both{1, 2, 3, 4, 5, 6, 7, 8};
  function.msix()->write_table(0, both);  // a qword is fine
  EXPECT_EQ(read_word(0), 0x04030201u);
  EXPECT_EQ(read_word(4), 0x08070605u);
  write_word(12, 0xffffffff);
  EXPECT_EQ(read_word(12), 1u);  // reserved bits stay zero
}

TEST_F(MsixTest, Reset) {
  program(0, 0x40);
  set_control(kMsixControlEnable);
  ASSERT_TRUE(bridge->reset().ok());
  EXPECT_FALSE(function.msix()->enabled());
  EXPECT_EQ(read_word(12), 1u);
  trigger(0);
  EXPECT_EQ(msi.total(), 0);
}

}  // namespace
}  // namespace calf::pci
