#include "devices/legacy/rtc_cmos.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_irq.h"
#include "tests/support/hostile_access.h"

namespace calf::devices {
namespace {

using namespace std::chrono_literals;
using R = RtcCmos;

class RtcTest : public testing::Test {
 protected:
  uint8_t in(uint8_t index) {
    rtc_.write_byte(0, index);
    return rtc_.read_byte(1);
  }
  void out(uint8_t index, uint8_t value) {
    rtc_.write_byte(0, index);
    rtc_.write_byte(1, value);
  }
  // century year month day hours minutes seconds, as the registers show them
  std::vector<int> time() {
    std::vector<int> bytes;
    for (uint8_t index :
         {R::kCentury, R::kYear, R::kMonth, R::kDayOfMonth, R::kHours, R::kMinutes, R::kSeconds})
      bytes.push_back(in(index));
    return bytes;
  }

  FakeClock clock_;
  FakeIrq irq_;
  RtcCmos rtc_{irq_, clock_, clock_};
};

TEST_F(RtcTest, ShowsWallTimeInBcdAndInBinary) {
  EXPECT_EQ(time(), (std::vector<int>{0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x50}));
  EXPECT_EQ(in(R::kDayOfWeek), 4) << "a Wednesday";
  clock_.advance(10s);
  EXPECT_EQ(time(), (std::vector<int>{0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00})) << "leap year";
  out(R::kRegisterB, R::k24Hour | R::kBinary);
  EXPECT_EQ(time(), (std::vector<int>{20, 24, 2, 29, 0, 0, 0}));
}

TEST_F(RtcTest, TwelveHourMode) {
  out(R::kRegisterB, 0);
  EXPECT_EQ(in(R::kHours), 0x11 | R::kAfternoonBit);
  clock_.advance(10s);
  EXPECT_EQ(in(R::kHours), 0x12) << "midnight";
  clock_.advance(12h);
  EXPECT_EQ(in(R::kHours), 0x12 | R::kAfternoonBit) << "noon";
}

// As Linux's mc146818_set_time() does it.
TEST_F(RtcTest, IsSetAndGoesOnHalfASecondBeforeTheNextSecond) {
  uint8_t b = in(R::kRegisterB);
  out(R::kRegisterB, b | R::kSet);
  uint8_t a = in(R::kRegisterA);
  out(R::kRegisterA, a | 0x70);
  out(R::kYear, 0x31);
  out(R::kMonth, 0x12);
  out(R::kDayOfMonth, 0x31);
  out(R::kHours, 0x23);
  out(R::kMinutes, 0x59);
  out(R::kSeconds, 0x59);
  clock_.advance(5s);
  EXPECT_EQ(in(R::kSeconds), 0x59) << "stands while SET";
  out(R::kRegisterB, b);
  out(R::kRegisterA, a);
  clock_.advance(499ms);
  EXPECT_EQ(in(R::kSeconds), 0x59);
  clock_.advance(1ms);
  EXPECT_EQ(time(), (std::vector<int>{0x20, 0x32, 0x01, 0x01, 0x00, 0x00, 0x00}));
}

TEST_F(RtcTest, UpdateInProgressJustBeforeTheSecond) {
  EXPECT_EQ(in(R::kRegisterA)&R::kUpdateInProgress, 0);
  clock_.advance(999ms);
  EXPECT_NE(in(R::kRegisterA)&R::kUpdateInProgress, 0);
  clock_.advance(1ms);
  EXPECT_EQ(in(R::kRegisterA)&R::kUpdateInProgress, 0);
  EXPECT_EQ(in(R::kSeconds), 0x51);
}

TEST_F(RtcTest, UpdateInterruptOncePerSecondAndClearedByReadingC) {
  out(R::kRegisterA, R::kDivider32768);  // no periodic rate
  out(R::kRegisterB, R::k24Hour | R::kUpdateInterrupt);
  for (int i = 1; i <= 3; ++i) {
    clock_.advance(1s);
    EXPECT_TRUE(irq_.level());
    EXPECT_EQ(irq_.edges(), i);
    EXPECT_EQ(in(R::kRegisterC), R::kInterruptRequest | R::kUpdateFlag);
    EXPECT_FALSE(irq_.level());
    EXPECT_EQ(in(R::kRegisterC), 0);
  }
  clock_.advance(100s);
  EXPECT_EQ(irq_.edges(), 4) << "pending until acknowledged";
}

TEST_F(RtcTest, PeriodicInterruptAtItsRate) {
  out(R::kRegisterA, R::kDivider32768 | 15);  // 2 Hz
  out(R::kRegisterB, R::k24Hour | R::kPeriodicInterrupt);
  int seen = 0;
  for (int i = 0; i < 1000; ++i) {
    clock_.advance(10ms);
    if ((in(R::kRegisterC)&R::kPeriodicFlag) != 0) ++seen;
  }
  EXPECT_EQ(seen, 20);
  EXPECT_EQ(irq_.edges(), 20);
}

TEST_F(RtcTest, FlagsCanBePolledWithoutInterrupts) {
  out(R::kSecondsAlarm, 0x55);
  out(R::kMinutesAlarm, R::kAnyAlarm);
  out(R::kHoursAlarm, R::kAnyAlarm);
  in(R::kRegisterC);
  clock_.advance(4s);
  EXPECT_EQ(in(R::kRegisterC), R::kUpdateFlag | R::kPeriodicFlag);
  clock_.advance(1s);
  EXPECT_EQ(in(R::kRegisterC), R::kUpdateFlag | R::kAlarmFlag | R::kPeriodicFlag);
  EXPECT_EQ(irq_.edges(), 0);
  EXPECT_EQ(clock_.expiries(), 0) << "an idle guest costs no wake-up";
}

TEST_F(RtcTest, AlarmTomorrowMorningTakesOneWakeUp) {
  out(R::kSecondsAlarm, 0x30);
  out(R::kMinutesAlarm, 0x15);
  out(R::kHoursAlarm, 0x06);
  out(R::kRegisterB, R::k24Hour | R::kAlarmInterrupt);
  clock_.advance(6h + 15min + 39s);
  EXPECT_FALSE(irq_.level());
  clock_.advance(1s);
  EXPECT_TRUE(irq_.level());
  EXPECT_EQ(clock_.expiries(), 1);
  EXPECT_EQ(in(R::kRegisterC)&R::kAlarmFlag, R::kAlarmFlag);
  clock_.advance(24h);
  EXPECT_EQ(irq_.edges(), 2);
}

TEST_F(RtcTest, AlarmThatNeverMatchesArmsNothing) {
  out(R::kRegisterB, R::k24Hour | R::kAlarmInterrupt | R::kBinary);
  in(R::kRegisterC);
  out(R::kSecondsAlarm, 0);
  out(R::kMinutesAlarm, 77);
  out(R::kHoursAlarm, 3);
  EXPECT_FALSE(clock_.any_armed());
}

TEST_F(RtcTest, FollowsTheHostsClockWhenThatIsSet) {
  out(R::kRegisterB, R::k24Hour | R::kUpdateInterrupt);
  clock_.step_wall(-1h);
  EXPECT_EQ(in(R::kHours), 0x22);
  clock_.advance(1100ms);
  EXPECT_TRUE(irq_.level());
}

TEST_F(RtcTest, MemorySizes) {
  rtc_.set_memory_size(uint64_t{3} << 30, uint64_t{5} << 30);
  EXPECT_EQ(in(0x15) | in(0x16) << 8, 640);
  EXPECT_EQ(in(0x17) | in(0x18) << 8, 63 * 1024);
  EXPECT_EQ(in(0x30) | in(0x31) << 8, 63 * 1024);
  EXPECT_EQ(in(0x34) | in(0x35) << 8, (3 * 1024 - 16) * 16);
  EXPECT_EQ(in(0x5b) | in(0x5c) << 8 | in(0x5d) << 16, 5 * 1024 * 16);
}

TEST_F(RtcTest, ResetKeepsTheBattery) {
  out(R::kShutdownStatus, 0x0a);
  out(R::kRegisterB, R::k24Hour | R::kUpdateInterrupt);
  clock_.advance(1s);
  rtc_.reset();
  EXPECT_FALSE(irq_.level());
  EXPECT_FALSE(clock_.any_armed());
  EXPECT_EQ(in(R::kRegisterB), R::k24Hour);
  EXPECT_EQ(in(R::kShutdownStatus), 0x0a);
  EXPECT_EQ(in(R::kRegisterD), R::kValidRam);
}

TEST_F(RtcTest, WordAccessSelectsAndWrites) {
  uint8_t both[2] = {R::kShutdownStatus | 0x80, 0x77};  // with the NMI mask bit
  rtc_.write(0, both);
  EXPECT_EQ(in(R::kShutdownStatus), 0x77);
}

TEST_F(RtcTest, SurvivesAHostileGuest) {
  hostile_accesses(rtc_, RtcCmos::kWindow, 200000, 146818, [&](uint32_t r) {
    if (r % 8 == 0) rtc_.write_byte(0, static_cast<uint8_t>(r >> 8) % 0x34);
    if (r % 64 == 1) clock_.advance(std::chrono::microseconds(r % 3000));
    if (r % 4096 == 2) clock_.step_wall(std::chrono::hours(static_cast<int>(r >> 16) % 100 - 50));
  });
}

}  // namespace
}  // namespace calf::devices
