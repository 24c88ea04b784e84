#include "devices/legacy/i8042.h"

#include <gtest/gtest.h>

#include "tests/support/fake_irq.h"
#include "tests/support/fake_machine.h"
#include "tests/support/hostile_access.h"

namespace calf::devices {
namespace {

using C = I8042;

class I8042Test : public testing::Test {
 protected:
  uint8_t read_port(Device& port) {
    uint8_t value = 0;
    port.read(0, {&value, 1});
    return value;
  }
  void write_port(Device& port, uint8_t value) { port.write(0, {&value, 1}); }
  uint8_t status() { return read_port(chip_.command_port()); }
  uint8_t data() { return read_port(chip_.data_port()); }
  void command(uint8_t value) { write_port(chip_.command_port(), value); }
  void send(uint8_t value) { write_port(chip_.data_port(), value); }
  bool full() { return (status() & C::kOutputBufferFull) != 0; }

  FakeMachine machine_;
  A20Gate a20_;
  FakeIrq keyboard_irq_;
  FakeIrq auxiliary_irq_;
  I8042 chip_{machine_, a20_, keyboard_irq_, auxiliary_irq_};
};

TEST_F(I8042Test, SelfTestAndCommandByte) {
  EXPECT_FALSE(full());
  command(C::kSelfTest);
  EXPECT_TRUE(full());
  EXPECT_EQ(data(), C::kSelfTestPassed);
  EXPECT_FALSE(full());
  command(C::kWriteRam);
  send(0x30);
  command(C::kReadRam);
  EXPECT_EQ(data(), 0x30);
}

// Linux's i8042_check_aux(): each step must be answered, or it waits half a second.
TEST_F(I8042Test, LinuxFindsNoMousePortWithoutWaiting) {
  command(C::kWriteAuxiliaryBuffer);
  send(0x5a);
  ASSERT_TRUE(full());
  EXPECT_EQ(status() & C::kAuxiliaryData, 0) << "not the mouse's: the loop test fails";
  data();
  command(C::kTestAuxiliaryPort);
  ASSERT_TRUE(full());
  uint8_t result = data();
  EXPECT_TRUE(result != 0 && result != 0xfa && result != 0xff);
}

TEST_F(I8042Test, AbsentKeyboardAnswersAtOnce) {
  send(0xf2);
  EXPECT_TRUE(keyboard_irq_.level());
  EXPECT_EQ(status() & (C::kOutputBufferFull | C::kTimeout), C::kOutputBufferFull | C::kTimeout);
  EXPECT_EQ(data(), C::kDeviceAbsent);
  EXPECT_FALSE(keyboard_irq_.level());
}

TEST_F(I8042Test, AbsentMouseAnswersOnItsOwnLine) {
  command(C::kWriteRam);
  send(C::kAuxiliaryInterrupt);
  command(C::kWriteAuxiliaryDevice);
  send(0xf4);
  EXPECT_FALSE(keyboard_irq_.level());
  EXPECT_TRUE(auxiliary_irq_.level());
  EXPECT_NE(status() & C::kAuxiliaryData, 0);
  EXPECT_EQ(data(), C::kDeviceAbsent);
  EXPECT_FALSE(auxiliary_irq_.level());
}

TEST_F(I8042Test, ResetByPulseAndByOutputPort) {
  command(0xff);
  EXPECT_EQ(machine_.resets, 0) << "no line pulsed";
  command(0xfe);
  EXPECT_EQ(machine_.resets, 1);
  EXPECT_EQ(machine_.last_reset, ResetReason::kKeyboardController);
  command(C::kWriteOutputPort);
  send(C::kA20);
  EXPECT_EQ(machine_.resets, 2);
}

TEST_F(I8042Test, A20ByOutputPortAsLoadersDo) {
  command(C::kReadOutputPort);
  EXPECT_NE(data() & C::kA20, 0);
  command(C::kWriteOutputPort);
  send(C::kResetOff);
  EXPECT_FALSE(a20_.enabled());
  command(C::kEnableA20);
  EXPECT_TRUE(a20_.enabled());
  command(C::kWriteOutputPort);
  send(0xdf);
  command(0xff);  // "null" command that loaders use to wait
  EXPECT_TRUE(a20_.enabled());
  EXPECT_EQ(machine_.resets, 0);
  EXPECT_EQ(status() & C::kInputBufferFull, 0);
}

TEST_F(I8042Test, ResetEmptiesTheBuffer) {
  send(1);
  chip_.reset();
  EXPECT_FALSE(full());
  EXPECT_FALSE(keyboard_irq_.level());
}

TEST_F(I8042Test, SurvivesAHostileGuest) {
  hostile_accesses(chip_.data_port(), 1, 100000, 60, [&](uint32_t r) {
    if (r % 4 == 0) command(static_cast<uint8_t>(r >> 8));
  });
  hostile_accesses(chip_.command_port(), 1, 100000, 64, [](uint32_t) {});
}

}  // namespace
}  // namespace calf::devices
