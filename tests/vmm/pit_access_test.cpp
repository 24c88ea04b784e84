#include "vmm/pit_access.h"

#include <gtest/gtest.h>

namespace calf::vmm {
namespace {

constexpr unsigned kControl = 3;

TEST(PitAccess, AControlWordSetsOneCounter) {
  kvm_pit_state2 state{};
  write_pit(state, kControl, 0xB6);  // counter 2, low then high, mode 3, binary
  EXPECT_EQ(state.channels[2].mode, 3);
  EXPECT_EQ(state.channels[2].rw_mode, 3);
  EXPECT_EQ(state.channels[2].bcd, 0);
  EXPECT_EQ(state.channels[0].rw_mode, 0);
  write_pit(state, kControl, 0x1F);  // counter 0, low, mode 7 is mode 3, BCD
  EXPECT_EQ(state.channels[0].mode, 3);
  EXPECT_EQ(state.channels[0].rw_mode, 1);
  EXPECT_EQ(state.channels[0].bcd, 1);
}

TEST(PitAccess, CountsAreWrittenAndReadByteByByte) {
  kvm_pit_state2 state{};
  write_pit(state, kControl, 0x34);  // counter 0, low then high
  write_pit(state, 0, 0x34);
  EXPECT_EQ(state.channels[0].count, 0u);
  write_pit(state, 0, 0x12);
  EXPECT_EQ(state.channels[0].count, 0x1234u);
  EXPECT_EQ(read_pit(state, 0), 0x34);
  EXPECT_EQ(read_pit(state, 0), 0x12);
  EXPECT_EQ(read_pit(state, 0), 0x34);

  write_pit(state, kControl, 0x60);  // counter 1, high
  write_pit(state, 1, 0x56);
  EXPECT_EQ(state.channels[1].count, 0x5600u);
  EXPECT_EQ(read_pit(state, 1), 0x56);
  EXPECT_EQ(read_pit(state, 1), 0x56);

  write_pit(state, kControl, 0x90);  // counter 2, low
  write_pit(state, 2, 0);
  EXPECT_EQ(state.channels[2].count, 0x10000u);
  write_pit(state, 2, 0x78);
  EXPECT_EQ(read_pit(state, 2), 0x78);
}

TEST(PitAccess, ALatchedCountIsReadOnce) {
  kvm_pit_state2 state{};
  write_pit(state, kControl, 0x34);
  write_pit(state, 0, 0x34);
  write_pit(state, 0, 0x12);
  write_pit(state, kControl, 0x00);  // latch counter 0
  state.channels[0].count = 0x5555;
  EXPECT_EQ(read_pit(state, 0), 0x34);
  EXPECT_EQ(read_pit(state, 0), 0x12);
  EXPECT_EQ(read_pit(state, 0), 0x55);
}

TEST(PitAccess, TheStatusIsReadBackBeforeTheCount) {
  kvm_pit_state2 state{};
  write_pit(state, kControl, 0x34);
  write_pit(state, 0, 0x34);
  write_pit(state, 0, 0x12);
  write_pit(state, kControl, 0xC2);     // both of counter 0
  EXPECT_EQ(read_pit(state, 0), 0x34);  // status: low then high, mode 2
  state.channels[0].count = 0x5555;
  EXPECT_EQ(read_pit(state, 0), 0x34);
  EXPECT_EQ(read_pit(state, 0), 0x12);
  EXPECT_EQ(read_pit(state, kControl), 0);
}

TEST(PitAccess, TheSpeakersPortOpensTheGate) {
  kvm_pit_state2 state{};
  write_speaker(state, 3);
  EXPECT_EQ(state.channels[2].gate, 1);
  EXPECT_EQ(read_speaker(state), 3);
  write_speaker(state, 1);
  EXPECT_EQ(read_speaker(state), 1);
  write_speaker(state, 0);
  EXPECT_EQ(state.channels[2].gate, 0);
}

// The registers may hold whatever another program left in them.
TEST(PitAccess, EveryStateTakesEveryAccess) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    kvm_pit_state2 state{};
    for (kvm_pit_channel_state& counter : state.channels) {
      counter.read_state = counter.write_state = counter.rw_mode = static_cast<uint8_t>(byte);
      counter.count_latched = counter.status_latched = static_cast<uint8_t>(byte);
    }
    for (unsigned index = 0; index <= kControl; ++index) {
      write_pit(state, index, static_cast<uint8_t>(byte));
      read_pit(state, index);
    }
  }
}

}  // namespace
}  // namespace calf::vmm
