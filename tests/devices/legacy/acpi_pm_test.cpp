#include "devices/legacy/acpi_pm.h"

#include <gtest/gtest.h>

#include "block/base/endian.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_irq.h"
#include "tests/support/fake_machine.h"
#include "tests/support/hostile_access.h"

namespace calf::devices {
namespace {

using namespace std::chrono_literals;

class AcpiPmTest : public testing::Test {
 protected:
  uint16_t in16(uint64_t offset) {
    std::array<uint8_t, 2> data{};
    pm_.read(offset, data);
    return static_cast<uint16_t>(data[0] | data[1] << 8);
  }
  uint32_t timer() {
    std::array<uint8_t, 4> data{};
    pm_.read(AcpiPm::kPmTimer, data);
    return data[0] | data[1] << 8 | data[2] << 16 | uint32_t{data[3]} << 24;
  }
  void out16(uint64_t offset, uint16_t value) {
    std::array<uint8_t, 2> data{static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8)};
    pm_.write(offset, data);
  }

  FakeMachine machine_;
  FakeClock clock_;
  FakeIrq sci_;
  AcpiPm pm_{machine_, sci_, clock_, clock_};
};

TEST_F(AcpiPmTest, IsAlwaysInAcpiMode) {
  EXPECT_EQ(in16(AcpiPm::kPm1Control) & AcpiPm::kSciEnable, 1);
  out16(AcpiPm::kPm1Control, 0);
  EXPECT_EQ(in16(AcpiPm::kPm1Control) & AcpiPm::kSciEnable, 1);
}

TEST_F(AcpiPmTest, PowerButtonRaisesSciUntilAcknowledged) {
  pm_.press_power_button();
  EXPECT_FALSE(sci_.level()) << "not enabled";
  out16(AcpiPm::kPm1Enable, AcpiPm::kPowerButton);
  EXPECT_TRUE(sci_.level());
  EXPECT_EQ(in16(AcpiPm::kPm1Status), AcpiPm::kPowerButton);
  out16(AcpiPm::kPm1Status, AcpiPm::kTimerCarry);
  EXPECT_TRUE(sci_.level()) << "only ones clear";
  out16(AcpiPm::kPm1Status, AcpiPm::kPowerButton);
  EXPECT_FALSE(sci_.level());
}

TEST_F(AcpiPmTest, SoftOffNeedsTypeAndEnable) {
  uint16_t s5 = AcpiPm::kSleepTypeS5 << AcpiPm::kSleepTypeShift;
  out16(AcpiPm::kPm1Control, s5);
  EXPECT_EQ(machine_.power_offs, 0);
  EXPECT_EQ(in16(AcpiPm::kPm1Control), s5 | AcpiPm::kSciEnable);
  out16(AcpiPm::kPm1Control, s5 | AcpiPm::kSleepEnable);
  EXPECT_EQ(machine_.power_offs, 1);
  EXPECT_EQ(in16(AcpiPm::kPm1Control), s5 | AcpiPm::kSciEnable) << "SLP_EN reads as zero";
}

TEST_F(AcpiPmTest, UnknownSleepStateWakesAtOnce) {
  out16(AcpiPm::kPm1Control, 3 << AcpiPm::kSleepTypeShift | AcpiPm::kSleepEnable);
  EXPECT_EQ(machine_.power_offs, 0);
  EXPECT_EQ(in16(AcpiPm::kPm1Status) & AcpiPm::kWake, AcpiPm::kWake);
}

TEST_F(AcpiPmTest, TimerCountsAtItsFrequency) {
  uint32_t start = timer();
  clock_.advance(1s);
  EXPECT_EQ(timer() - start, AcpiPm::kTimerHz);
  clock_.advance(1ms);
  EXPECT_NEAR(timer() - start, 1.001 * AcpiPm::kTimerHz, 1);
}

TEST_F(AcpiPmTest, TimerCarryEveryTenMinutes) {
  out16(AcpiPm::kPm1Enable, AcpiPm::kTimerCarry);
  int carries = 0;
  for (int i = 0; i < 40; ++i) {
    clock_.advance(1min);
    if (!sci_.level()) continue;
    ++carries;
    out16(AcpiPm::kPm1Status, AcpiPm::kTimerCarry);
    EXPECT_FALSE(sci_.level());
  }
  EXPECT_EQ(carries, 4);
  EXPECT_EQ(clock_.expiries(), 4);
}

TEST_F(AcpiPmTest, GeneralPurposeEvents) {
  out16(AcpiPm::kGpe0Enable, 1 << 9);
  pm_.raise_gpe(3);
  EXPECT_FALSE(sci_.level());
  pm_.raise_gpe(9);
  EXPECT_TRUE(sci_.level());
  EXPECT_EQ(in16(AcpiPm::kGpe0Status), 1 << 9 | 1 << 3);
  out16(AcpiPm::kGpe0Status, 1 << 9);
  EXPECT_FALSE(sci_.level());
  pm_.raise_gpe(1000);
}

TEST_F(AcpiPmTest, ResetRegister) {
  uint8_t wrong = 0;
  pm_.write(AcpiPm::kReset, {&wrong, 1});
  EXPECT_EQ(machine_.resets, 0);
  uint8_t value = AcpiPm::kResetValue;
  pm_.write(AcpiPm::kReset, {&value, 1});
  EXPECT_EQ(machine_.last_reset, ResetReason::kAcpi);
}

TEST_F(AcpiPmTest, ResetOfTheMachineDropsEvents) {
  out16(AcpiPm::kPm1Enable, AcpiPm::kPowerButton);
  pm_.press_power_button();
  pm_.reset();
  EXPECT_FALSE(sci_.level());
  EXPECT_EQ(in16(AcpiPm::kPm1Status), 0);
}

TEST_F(AcpiPmTest, SurvivesAHostileGuest) {
  hostile_accesses(pm_, AcpiPm::kWindow, 200000, 65, [&](uint32_t r) {
    if (r % 64 == 0) pm_.press_power_button();
    if (r % 64 == 1) pm_.raise_gpe(r >> 8);
    if (r % 64 == 2) clock_.advance(std::chrono::seconds(r % 700));
  });
}

}  // namespace
}  // namespace calf::devices
