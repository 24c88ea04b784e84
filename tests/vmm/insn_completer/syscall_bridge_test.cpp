#include "vmm/insn_completer/syscall_bridge.h"

#include <gtest/gtest.h>

#include "tests/vmm/insn_completer/fake_cpu.h"

namespace calf::insn {
namespace {

class FakeDebug final : public DebugControl {
 public:
  Result<void> clear() override {
    breakpoint = 0;
    stepping = false;
    return {};
  }
  Result<void> set_breakpoint(uint64_t linear) override {
    breakpoint = linear;
    stepping = false;
    return {};
  }
  Result<void> single_step() override {
    stepping = true;
    return {};
  }
  uint64_t breakpoint = 0;
  bool stepping = false;
};

constexpr uint64_t kHandler = 0x12340;
constexpr uint64_t kEntry = 0x15000;
constexpr uint64_t kMask = 0x47700;

class SyscallBridgeTest : public testing::Test {
 protected:
  SyscallBridgeTest() {
    set_handler(kHandler);
    write_msr(kMsrStar, 0x0023001000000000);
    write_msr(kMsrLstar, kEntry);
    write_msr(kMsrSyscallMask, kMask);
  }
  void set_handler(uint64_t handler) {
    uint64_t gate = FakeCpu::kIdt + 14 * 16;
    cpu_.poke<uint64_t>(gate, (handler & 0xffff) | 0x8e0000080000 | (handler >> 16 & 0xffff) << 48);
    cpu_.poke<uint64_t>(gate + 8, handler >> 32);
  }
  void write_msr(uint32_t index, uint64_t value) {
    auto taken = bridge_.on_msr_write(index, value);
    ASSERT_TRUE(taken.ok() && *taken);
  }
  // The guest's page-fault handler is about to run for a fault at `rip`.
  void fault(uint64_t error, uint64_t rip, uint64_t cs, uint64_t cr2) {
    uint64_t frame = FakeCpu::kStack - 48;
    for (uint64_t value : {error, rip, cs, uint64_t{0x10246}, uint64_t{0x7ff000}, uint64_t{0x2b}}) {
      cpu_.poke<uint64_t>(frame, value);
      frame += 8;
    }
    cpu_.sys.cr2 = cr2;
    cpu_.regs.rip = kHandler;
    cpu_.regs.general[kRsp] = FakeCpu::kStack - 48;
    cpu_.regs.general[kRcx] = 0x400002;
    cpu_.regs.general[11] = 0x202;
  }
  bool debug_exit(uint64_t pc) {
    auto mine = bridge_.on_debug_exit(pc);
    return mine.ok() && *mine;
  }

  FakeCpu cpu_;
  FakeDebug debug_;
  SyscallBridge bridge_{cpu_, debug_, cpu_.memory};
};

TEST_F(SyscallBridgeTest, ArmsItselfWhenTheGuestSetsItsEntry) {
  EXPECT_EQ(debug_.breakpoint, kHandler);
  EXPECT_EQ(cpu_.msrs[kMsrLstar], kEntry);
  set_handler(0x13000);
  ASSERT_TRUE(bridge_.refresh().ok());
  EXPECT_EQ(debug_.breakpoint, 0x13000u);
  ASSERT_TRUE(bridge_.reset().ok());
  EXPECT_EQ(debug_.breakpoint, 0u);
  ASSERT_TRUE(bridge_.refresh().ok());
  EXPECT_EQ(debug_.breakpoint, 0u) << "no LSTAR any more";
}

TEST_F(SyscallBridgeTest, EntersTheKernelAsSyscallDoes) {
  fault(0x15, kEntry, 0x33, kEntry);
  ASSERT_TRUE(debug_exit(kHandler));
  EXPECT_EQ(cpu_.regs.rip, kEntry);
  EXPECT_EQ(cpu_.regs.general[kRsp], 0x7ff000u) << "the user's stack pointer";
  EXPECT_EQ(cpu_.regs.general[kRcx], 0x400002u);
  EXPECT_EQ(cpu_.regs.general[11], 0x202u) << "as the processor loaded it";
  EXPECT_EQ(cpu_.regs.rflags, 0x246u & ~kMask);
  EXPECT_EQ(cpu_.sys.cpl(), 0);
  EXPECT_EQ(cpu_.sys.segment(SegmentName::kCs).selector, 0x10);
  EXPECT_TRUE(cpu_.sys.segment(SegmentName::kCs).long_mode);
  EXPECT_EQ(cpu_.sys.segment(SegmentName::kSs).selector, 0x18);
  EXPECT_EQ(bridge_.system_calls(), 1u);
}

TEST_F(SyscallBridgeTest, OtherFaultsReachTheHandler) {
  struct Case {
    uint64_t error, rip, cs, cr2;
  };
  for (Case c : {Case{0x14, 0x400000, 0x33, 0x400000},  // the user's code is not there yet
                 Case{0x06, 0x400000, 0x33, kEntry},    // the user pokes at the kernel
                 Case{0x10, kEntry, 0x10, kEntry}}) {   // the kernel's own code is gone
    fault(c.error, c.rip, c.cs, c.cr2);
    cpu_.poke<uint32_t>(kHandler, 0x90ca010f);  // clac
    cpu_.regs.rflags |= kAlignmentCheck;
    ASSERT_TRUE(debug_exit(kHandler));
    EXPECT_EQ(cpu_.regs.rip, kHandler + 3);
    EXPECT_EQ(cpu_.regs.rflags & kAlignmentCheck, 0u);
    EXPECT_FALSE(debug_.stepping);
  }
  EXPECT_EQ(bridge_.system_calls(), 0u);
  EXPECT_EQ(bridge_.other_faults(), 3u);
}

TEST_F(SyscallBridgeTest, StepsOverAFirstInstructionItDoesNotKnow) {
  fault(2, 0x10000, 8, 0x999000);
  cpu_.poke<uint32_t>(kHandler, 0x50505050);  // push rax
  ASSERT_TRUE(debug_exit(kHandler));
  EXPECT_EQ(cpu_.regs.rip, kHandler);
  EXPECT_TRUE(debug_.stepping);
  set_handler(0x13000);
  ASSERT_TRUE(bridge_.refresh().ok());
  EXPECT_TRUE(debug_.stepping) << "not disturbed in the middle";
  ASSERT_TRUE(debug_exit(kHandler + 1));
  EXPECT_FALSE(debug_.stepping);
  EXPECT_EQ(debug_.breakpoint, kHandler);
}

TEST_F(SyscallBridgeTest, TheGuestsOwnBreakpointsAreNotItsBusiness) {
  EXPECT_FALSE(debug_exit(0x400000));
}

}  // namespace
}  // namespace calf::insn
