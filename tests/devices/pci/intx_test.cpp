#include "tests/devices/pci/pci_fixture.h"

namespace calf::pci {
namespace {

class IntxTest : public PciTest {
 protected:
  IntxTest() {
    for (TestFunction* function : {&a, &b, &c}) {
      function->use_intx();
      EXPECT_TRUE(bridge->add(*function).ok());
    }
  }
  TestFunction a{1}, b{2}, c{3};  // devices 1 and 3 share an input
};

TEST_F(IntxTest, LinesAreSharedAndLevelTriggered) {
  a.set_intx(true);
  a.set_intx(true);
  EXPECT_TRUE(irq11.level());
  EXPECT_FALSE(irq10.level());
  c.set_intx(true);
  a.set_intx(false);
  EXPECT_TRUE(irq11.level());
  EXPECT_EQ(irq11.edges(), 1);
  c.set_intx(false);
  EXPECT_FALSE(irq11.level());
}

TEST_F(IntxTest, TheGuestMayDisableThem) {
  ecam_write(2, kRegCommand, 2, kCommandIntxDisable);
  b.set_intx(true);
  EXPECT_FALSE(irq10.level());
  EXPECT_EQ(ecam_read(2, kRegStatus, 2) & kStatusInterrupt, kStatusInterrupt);
  EXPECT_EQ(ecam_read(2, kRegCommand, 4) >> 16 & kStatusInterrupt, kStatusInterrupt);
  EXPECT_EQ(ecam_read(2, kRegStatus, 1) & kStatusInterrupt, kStatusInterrupt);
  ecam_write(2, kRegCommand, 2, 0);
  EXPECT_TRUE(irq10.level());
  ecam_write(2, kRegCommand, 2, kCommandIntxDisable);
  EXPECT_FALSE(irq10.level());
  ecam_write(2, kRegCommand, 2, 0);
  b.set_intx(false);
  EXPECT_FALSE(irq10.level());
  EXPECT_EQ(ecam_read(2, kRegStatus, 2) & kStatusInterrupt, 0u);
}

TEST_F(IntxTest, ResetLowersTheLine) {
  a.set_intx(true);
  ASSERT_TRUE(bridge->reset().ok());
  EXPECT_FALSE(irq11.level());
}

}  // namespace
}  // namespace calf::pci
