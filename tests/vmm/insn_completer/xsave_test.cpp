// The XSAVE family on a processor with components 0, 1, 2 (AVX, at 576), 5 (at 1088, aligned when
// compacted) and 6 (at 1152).
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/vmm/insn_completer/fake_cpu.h"

namespace calf::insn {
namespace {

constexpr uint64_t kArea = FakeCpu::kData;
constexpr size_t kHeader = 512;

class XsaveTest : public testing::Test {
 protected:
  XsaveTest() {
    cpu_.regs.general[kRdi] = kArea;
    cpu_.regs.general[kRax] = ~uint64_t{0};
    cpu_.regs.general[kRdx] = ~uint64_t{0};
    std::mt19937 random(13);
    for (uint8_t& byte : cpu_.xsave_state.bytes)
      byte = static_cast<uint8_t>(random());
    FakeCpu::put<uint64_t>(state() + 24, 0x1fa0);  // and a mask of zero, which is not loaded
    set_in_use(0x67);
    std::fill_n(state() + kHeader + 8, 56, uint8_t{0});
  }
  uint8_t* state() { return cpu_.xsave_state.bytes.data(); }
  void set_in_use(uint64_t components) { FakeCpu::put<uint64_t>(state() + kHeader, components); }
  uint64_t in_use() { return FakeCpu::get<uint64_t>(state() + kHeader); }
  void run(const std::vector<uint8_t>& code) {
    Outcome outcome = cpu_.run(code);
    ASSERT_TRUE(std::holds_alternative<Completed>(outcome))
        << std::get<CannotComplete>(outcome).why;
  }
  void run_without_fault(const std::vector<uint8_t>& code) {
    run(code);
    ASSERT_FALSE(cpu_.injected.has_value()) << "vector " << int{cpu_.injected->vector};
  }
  bool same(size_t memory_offset, size_t state_offset, size_t size) {
    return std::memcmp(cpu_.at(kArea + memory_offset), state() + state_offset, size) == 0;
  }

  const std::vector<uint8_t> xsave_{0x48, 0x0f, 0xae, 0x27};
  const std::vector<uint8_t> xrstor_{0x48, 0x0f, 0xae, 0x2f};
  const std::vector<uint8_t> xsavec_{0x48, 0x0f, 0xc7, 0x27};
  const std::vector<uint8_t> xsaves_{0x48, 0x0f, 0xc7, 0x2f};
  const std::vector<uint8_t> xrstors_{0x48, 0x0f, 0xc7, 0x1f};
  FakeCpu cpu_;
};

TEST_F(XsaveTest, StandardFormRoundTrip) {
  XsaveState original = cpu_.xsave_state;
  run_without_fault(xsave_);
  EXPECT_TRUE(same(0, 0, 416));
  EXPECT_TRUE(same(576, 576, 256));
  EXPECT_TRUE(same(1088, 1088, 576));
  EXPECT_EQ(cpu_.peek<uint64_t>(kArea + kHeader), 0x67u);
  std::fill_n(state(), 4096, uint8_t{0});
  run_without_fault(xrstor_);
  EXPECT_TRUE(std::equal(state(), state() + 416, original.bytes.begin()));
  EXPECT_TRUE(std::equal(state() + 576, state() + 832, original.bytes.begin() + 576));
  EXPECT_TRUE(std::equal(state() + 1088, state() + 1664, original.bytes.begin() + 1088));
  EXPECT_EQ(in_use(), 0x67u);
}

TEST_F(XsaveTest, SavesOnlyWhatIsAskedFor) {
  cpu_.regs.general[kRax] = 4;
  cpu_.regs.general[kRdx] = 0;
  cpu_.poke<uint64_t>(kArea + kHeader, 0x3);
  run_without_fault(xsave_);
  EXPECT_EQ(cpu_.peek<uint64_t>(kArea + kHeader), 0x7u) << "other bits stay";
  EXPECT_EQ(cpu_.peek<uint64_t>(kArea), 0u) << "x87 untouched";
  EXPECT_EQ(cpu_.peek<uint32_t>(kArea + 24), 0x1fa0u) << "MXCSR goes with AVX";
  EXPECT_EQ(cpu_.peek<uint64_t>(kArea + 160), 0u);
  EXPECT_TRUE(same(576, 576, 256));
}

TEST_F(XsaveTest, CompactedFormPacksAndAligns) {
  cpu_.xcr0_value = 0x67;
  cpu_.regs.general[kRax] = 0x67;
  cpu_.poke<uint8_t>(kArea + 500, 0xee);
  run_without_fault(xsavec_);
  EXPECT_EQ(cpu_.peek<uint64_t>(kArea + kHeader), 0x67u);
  EXPECT_EQ(cpu_.peek<uint64_t>(kArea + kHeader + 8), 0x8000000000000067u);
  EXPECT_TRUE(same(576, 576, 256));
  EXPECT_TRUE(same(832, 1088, 64));
  EXPECT_TRUE(same(896, 1152, 512));
  EXPECT_EQ(cpu_.peek<uint8_t>(kArea + 500), 0xee) << "reserved for software";
}

TEST_F(XsaveTest, CompactedFormWithoutAComponentMovesTheNext) {
  cpu_.regs.general[kRax] = 0x63;  // no AVX
  run_without_fault(xsaves_);
  EXPECT_EQ(cpu_.peek<uint64_t>(kArea + kHeader + 8), 0x8000000000000063u);
  EXPECT_TRUE(same(576, 1088, 64));
  EXPECT_TRUE(same(640, 1152, 512));
}

TEST_F(XsaveTest, CompactedFormLeavesOutInitialState) {
  set_in_use(3);
  cpu_.poke<uint64_t>(kArea + 576, 0x1122334455667788);
  run_without_fault(xsaves_);
  EXPECT_EQ(cpu_.peek<uint64_t>(kArea + kHeader), 3u);
  EXPECT_EQ(cpu_.peek<uint64_t>(kArea + 576), 0x1122334455667788u) << "not written";
}

TEST_F(XsaveTest, SupervisorRoundTripAndInit) {
  XsaveState original = cpu_.xsave_state;
  run_without_fault(xsaves_);
  cpu_.poke<uint64_t>(kArea + kHeader, 0x63);  // AVX back to its initial state
  std::fill_n(state(), 4096, uint8_t{0xaa});
  set_in_use(0x67);
  run_without_fault(xrstors_);
  EXPECT_TRUE(std::equal(state(), state() + 24, original.bytes.begin()));
  EXPECT_TRUE(std::equal(state() + 1088, state() + 1664, original.bytes.begin() + 1088));
  EXPECT_EQ(in_use(), 0x63u) << "AVX is initial";
}

TEST_F(XsaveTest, RestoringNothingInitialises) {
  cpu_.poke<uint64_t>(kArea + kHeader, 0);
  cpu_.poke<uint64_t>(kArea + kHeader + 8, 0x8000000000000067);
  run_without_fault(xrstors_);
  EXPECT_EQ(FakeCpu::get<uint16_t>(state()), 0x37f);
  EXPECT_EQ(FakeCpu::get<uint32_t>(state() + 24), 0x1f80u);
  EXPECT_EQ(FakeCpu::get<uint64_t>(state() + 160), 0u);
  EXPECT_EQ(in_use() & 0x65, 0u);
}

TEST_F(XsaveTest, BadHeadersAreRefused) {
  Exception gp{kVectorGeneralProtection, 0, {}};
  cpu_.poke<uint64_t>(kArea + kHeader, 0x80);  // not enabled
  run(xrstor_);
  EXPECT_EQ(cpu_.injected, gp);
  cpu_.injected.reset();
  cpu_.poke<uint64_t>(kArea + kHeader, 1);
  cpu_.poke<uint64_t>(kArea + kHeader + 24, 1);
  run(xrstor_);
  EXPECT_EQ(cpu_.injected, gp);
  cpu_.injected.reset();
  cpu_.poke<uint64_t>(kArea + kHeader + 24, 0);
  run(xrstors_);
  EXPECT_EQ(cpu_.injected, gp) << "XRSTORS knows only the compacted form";
  cpu_.injected.reset();
  cpu_.poke<uint32_t>(kArea + 24, 0x10000);
  cpu_.regs.general[kRax] = 2;
  run(xrstor_);
  EXPECT_EQ(cpu_.injected, gp) << "reserved bit of MXCSR";
  cpu_.injected.reset();
  cpu_.regs.general[kRdi] += 16;
  run(xsave_);
  EXPECT_EQ(cpu_.injected, gp) << "not aligned";
}

TEST_F(XsaveTest, NeedsTheUnitAndPermission) {
  cpu_.sys.cr0 |= kCr0Ts;
  run(xsave_);
  EXPECT_EQ(cpu_.injected->vector, kVectorDeviceNotAvailable);
  cpu_.injected.reset();
  cpu_.sys.cr0 &= ~kCr0Ts;
  cpu_.sys.cr4 &= ~kCr4Osxsave;
  run(xsave_);
  EXPECT_EQ(cpu_.injected->vector, kVectorInvalidOpcode);
}

TEST_F(XsaveTest, LegacyAreaAndMxcsr) {
  run_without_fault({0x48, 0x0f, 0xae, 0x07});  // fxsave64
  EXPECT_TRUE(same(0, 0, 416));
  XsaveState original = cpu_.xsave_state;
  std::fill_n(state(), 416, uint8_t{0});
  run_without_fault({0x48, 0x0f, 0xae, 0x0f});  // fxrstor64
  EXPECT_TRUE(std::equal(state(), state() + 416, original.bytes.begin()));
  cpu_.poke<uint32_t>(kArea, 0x1f81);
  run_without_fault({0x0f, 0xae, 0x17});  // ldmxcsr
  EXPECT_EQ(FakeCpu::get<uint32_t>(state() + 24), 0x1f81u);
  cpu_.regs.general[kRdi] += 8;
  run_without_fault({0x0f, 0xae, 0x1f});  // stmxcsr
  EXPECT_EQ(cpu_.peek<uint32_t>(kArea + 8), 0x1f81u);
}

// Whatever bytes a guest puts at RIP, whatever its registers: an answer.
TEST(HostileInstructions, AlwaysEndInAnOutcome) {
  std::mt19937_64 random(15);
  FakeCpu cpu;
  constexpr uint8_t kFavourites[] = {0x0f, 0x0f, 0xae, 0xc7, 0xf3, 0xf2, 0x66, 0x67,
                                     0xc4, 0xc5, 0x38, 0x01, 0xcf, 0xcd, 0x48, 0x02};
  for (int i = 0; i < 60000; ++i) {
    if (i % 5000 == 0) cpu = FakeCpu();
    if (i % 3 == 1) cpu.enter_protected(random() % 2 == 0);
    cpu.regs.rip = random() % 8 == 0 ? random() : FakeCpu::kCode % 0x8000 + random() % 0x3000;
    for (uint64_t& reg : cpu.regs.general)
      reg = random() % 4 == 0 ? random() : random() % 0x1000000;
    if (random() % 8 == 0) cpu.sys.cr3 = random() % (20 << 20);
    if (random() % 8 == 0) cpu.sys.gdt.base = random();
    std::vector<uint8_t> code(15);
    for (uint8_t& byte : code)
      byte = random() % 2 == 0 ? kFavourites[random() % 16] : static_cast<uint8_t>(random());
    uint64_t where = cpu.regs.rip & 0xfffff;
    std::copy(code.begin(), code.end(), cpu.at(where));
    std::copy(code.begin(), code.end(), cpu.at(where + 0x10000));
    (void)cpu.complete_here();
  }
}

}  // namespace
}  // namespace calf::insn
