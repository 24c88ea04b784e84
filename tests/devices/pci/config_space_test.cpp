#include "devices/pci/config_space.h"

#include <gtest/gtest.h>

namespace calf::pci {
namespace {

constexpr Identity kIdentity = {.vendor = 0x1af4,
                                .device = 0x1042,
                                .subsystem_vendor = 0x1af4,
                                .subsystem = 0x1100,
                                .class_code = 0x018000,
                                .revision = 1};

TEST(ConfigSpaceTest, HeaderSaysWhatTheFunctionIs) {
  ConfigSpace config(kIdentity);
  EXPECT_EQ(config.read(0x00, 4), 0x10421af4u);
  EXPECT_EQ(config.read(0x08, 4), 0x01800001u);
  EXPECT_EQ(config.read(0x0e, 1), 0u);  // type 0, one function
  EXPECT_EQ(config.read(0x2c, 4), 0x11001af4u);
}

TEST(ConfigSpaceTest, OnlyOpenBitsChange) {
  ConfigSpace config(kIdentity);
  for (unsigned offset = 0; offset < kConfigSize; offset += 4)
    config.write(offset, 4, 0xffffffff);
  EXPECT_EQ(config.read(0x00, 4), 0x10421af4u);
  EXPECT_EQ(config.read(kRegCommand, 2), 0x0547u);
  EXPECT_EQ(config.read(kRegStatus, 2), 0u);
  EXPECT_EQ(config.read(kRegBar0, 4), 0u);  // no BAR: it sizes as absent
  EXPECT_EQ(config.read(kRegRomBase, 4), 0u);
  EXPECT_EQ(config.read(kRegInterruptLine, 2), 0x00ffu);
}

TEST(ConfigSpaceTest, CapabilitiesFormAList) {
  ConfigSpace config(kIdentity);
  EXPECT_EQ(config.read(kRegCapabilities, 1), 0u);
  const uint8_t body[] = {1, 2, 3};  // not a multiple of four: the next one is aligned all the same
  uint8_t first = config.add_capability(kCapVendor, body);
  uint8_t second = config.add_capability(kCapMsix, body);
  EXPECT_EQ(config.read(kRegStatus, 2), kStatusCapabilities);
  EXPECT_EQ(config.read(kRegCapabilities, 1), first);
  EXPECT_EQ(config.read(first, 1), kCapVendor);
  EXPECT_EQ(config.read(first + 1, 1), second);
  EXPECT_EQ(config.read(first + 2, 2), 0x0201u);
  EXPECT_EQ(second % 4, 0);
  EXPECT_EQ(config.read(second + 1, 1), 0u);
}

TEST(ConfigSpaceTest, BeyondTheEndAreOnes) {
  ConfigSpace config(kIdentity);
  EXPECT_EQ(config.read(0xfe, 4), 0xffff0000u);
  config.write(0xfe, 4, 0x12345678);
  EXPECT_EQ(config.read(0xfc, 4), 0u);
}

}  // namespace
}  // namespace calf::pci
