// The small ports: resets, debug output and exit, pvpanic; and lines that devices share.
#include <gtest/gtest.h>

#include "devices/core/shared_irq.h"
#include "devices/legacy/debug_ports.h"
#include "devices/legacy/reset_ports.h"
#include "tests/support/fake_channel.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_irq.h"
#include "tests/support/fake_machine.h"
#include "tests/support/hostile_access.h"

namespace calf::devices {
namespace {

TEST(Port92, SwitchesA20AndResets) {
  FakeMachine machine;
  A20Gate a20;
  Port92 port(machine, a20);
  port.write_byte(0, 0);
  EXPECT_FALSE(a20.enabled());
  EXPECT_EQ(port.read_byte(0), 0);
  port.write_byte(0, Port92::kA20);
  EXPECT_EQ(port.read_byte(0), Port92::kA20);
  EXPECT_EQ(machine.resets, 0);
  port.write_byte(0, Port92::kA20 | Port92::kFastReset);
  EXPECT_EQ(machine.last_reset, ResetReason::kPort92);
}

TEST(ResetControl, ResetsOnTheRisingEdge) {
  FakeMachine machine;
  ResetControl port(machine);
  port.write_byte(0, ResetControl::kSystemReset);
  EXPECT_EQ(machine.resets, 0);
  EXPECT_EQ(port.read_byte(0), ResetControl::kSystemReset);
  port.write_byte(0, 0x06);
  EXPECT_EQ(machine.resets, 1);
  port.write_byte(0, 0x06);
  EXPECT_EQ(machine.resets, 1) << "already high";
  port.reset();
  port.write_byte(0, 0x0e);
  EXPECT_EQ(machine.resets, 2);
}

TEST(DebugPort, WritesBytesAndSaysItIsThere) {
  FakeChannel channel;
  FakeClock clock;
  DebugPort port(channel, clock, clock);
  EXPECT_EQ(port.read_byte(0), 0xe9);
  for (char c : std::string("hi"))
    port.write_byte(0, static_cast<uint8_t>(c));
  port.flush();
  EXPECT_EQ(channel.sent(), "hi");
  channel.set_room(0);
  for (size_t i = 0; i < SerialOutput::kCapacity + 7; ++i)
    port.write_byte(0, 'x');
  EXPECT_EQ(port.dropped_output(), 7u);
}

TEST(DebugExit, PassesTheValueOfAnyWidth) {
  FakeMachine machine;
  DebugExit port(machine);
  std::array<uint8_t, 4> wide{0x10, 0x32, 0x54, 0x76};
  port.write(0, std::span<const uint8_t>(wide).first(1));
  EXPECT_EQ(machine.debug_exit, 0x10u);
  port.write(0, wide);
  EXPECT_EQ(machine.debug_exit, 0x76543210u);
}

TEST(Pvpanic, ReportsTheGuestsLastWords) {
  FakeMachine machine;
  Pvpanic port(machine);
  EXPECT_EQ(port.read_byte(0), Pvpanic::kPanicked | Pvpanic::kCrashLoaded);
  port.write_byte(0, 0x80);
  EXPECT_FALSE(machine.panic.has_value());
  port.write_byte(0, Pvpanic::kCrashLoaded);
  EXPECT_EQ(machine.panic, PanicKind::kCrashLoaded);
  port.write_byte(0, Pvpanic::kPanicked);
  EXPECT_EQ(machine.panic, PanicKind::kPanicked);
}

TEST(SmallPorts, SurviveAHostileGuest) {
  FakeMachine machine;
  A20Gate a20;
  Port92 port92(machine, a20);
  ResetControl reset_control(machine);
  DebugExit debug_exit(machine);
  Pvpanic pvpanic(machine);
  FakeChannel channel;
  FakeClock clock;
  DebugPort debug_port(channel, clock, clock);
  for (Device* device : {static_cast<Device*>(&port92), static_cast<Device*>(&reset_control),
                         static_cast<Device*>(&debug_exit), static_cast<Device*>(&pvpanic),
                         static_cast<Device*>(&debug_port)})
    hostile_accesses(*device, 4, 20000, 92, [](uint32_t) {});
}

TEST(SharedIrq, IsHighWhileAnyInputIs) {
  FakeIrq line;
  SharedIrq shared(line);
  IrqLine& a = shared.add_input();
  IrqLine& b = shared.add_input();
  a.set_level(true);
  b.set_level(true);
  a.set_level(false);
  EXPECT_TRUE(line.level());
  b.set_level(false);
  b.set_level(false);
  EXPECT_FALSE(line.level());
  EXPECT_EQ(line.edges(), 1);
}

}  // namespace
}  // namespace calf::devices
