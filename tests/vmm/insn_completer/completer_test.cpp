// Instructions as bytes; their results.
#include "vmm/insn_completer/completer.h"

#include <gtest/gtest.h>

#include "tests/vmm/insn_completer/fake_cpu.h"

namespace calf::insn {
namespace {

class CompleterTest : public testing::Test {
 protected:
  // The instruction is completed and RIP stands behind it.
  void expect_done(const std::vector<uint8_t>& code) {
    uint64_t rip = cpu_.regs.rip;
    Outcome outcome = cpu_.run(code);
    ASSERT_TRUE(std::holds_alternative<Completed>(outcome))
        << std::get<CannotComplete>(outcome).why;
    EXPECT_FALSE(cpu_.injected.has_value()) << "vector " << int{cpu_.injected->vector};
    EXPECT_EQ(cpu_.regs.rip, rip + code.size());
  }
  void expect_exception(const std::vector<uint8_t>& code, const Exception& exception) {
    Registers before = cpu_.regs;
    Outcome outcome = cpu_.run(code);
    ASSERT_TRUE(std::holds_alternative<Completed>(outcome))
        << std::get<CannotComplete>(outcome).why;
    ASSERT_TRUE(cpu_.injected.has_value());
    EXPECT_EQ(*cpu_.injected, exception)
        << "got vector " << int{cpu_.injected->vector} << " error "
        << cpu_.injected->error_code.value_or(0xdead) << " cr2 " << cpu_.injected->cr2.value_or(0);
    EXPECT_EQ(cpu_.regs, before) << "a fault changes nothing";
  }
  bool flag(uint64_t mask) const { return (cpu_.regs.rflags & mask) != 0; }
  uint64_t& rax() { return cpu_.regs.general[kRax]; }
  uint64_t& rbx() { return cpu_.regs.general[kRbx]; }
  uint64_t& rcx() { return cpu_.regs.general[kRcx]; }
  uint64_t& rdx() { return cpu_.regs.general[kRdx]; }

  FakeCpu cpu_;
};

TEST_F(CompleterTest, Popcnt) {
  rbx() = 0xf0f0000000000001;
  expect_done({0xf3, 0x48, 0x0f, 0xb8, 0xc3});  // popcnt rax, rbx
  EXPECT_EQ(rax(), 9u);
  EXPECT_FALSE(flag(kZero));
  rax() = ~uint64_t{0};
  rbx() = 0xffffffff00000000;
  expect_done({0xf3, 0x0f, 0xb8, 0xc3});  // popcnt eax, ebx
  EXPECT_EQ(rax(), 0u);
  EXPECT_TRUE(flag(kZero));
  rax() = ~uint64_t{0};
  expect_done({0x66, 0xf3, 0x0f, 0xb8, 0xc3});  // popcnt ax, bx
  EXPECT_EQ(rax(), 0xffffffffffff0000);
}

TEST_F(CompleterTest, MemoryOperandWithIndexScaleAndSegmentBase) {
  cpu_.sys.segment(SegmentName::kGs).base = 0x1000;
  cpu_.regs.general[12] = FakeCpu::kData - 0x1000;
  cpu_.regs.general[9] = 3;
  cpu_.poke<uint64_t>(FakeCpu::kData + 3 * 8 - 16, 0xff);
  // popcnt r10, gs:[r12 + r9*8 - 16]
  expect_done({0x65, 0xf3, 0x4f, 0x0f, 0xb8, 0x54, 0xcc, 0xf0});
  EXPECT_EQ(cpu_.regs.general[10], 8u);
}

TEST_F(CompleterTest, RipRelativeCountsFromTheNextInstruction) {
  std::vector<uint8_t> code = {0xf3, 0x48, 0x0f, 0xb8, 0x05, 0x00, 0x01, 0x00, 0x00};
  cpu_.poke<uint64_t>(FakeCpu::kCode + code.size() + 0x100, 7);
  expect_done(code);
  EXPECT_EQ(rax(), 3u);
}

TEST_F(CompleterTest, TrailingAndLeadingZeros) {
  rbx() = 0x8000;
  expect_done({0xf3, 0x48, 0x0f, 0xbc, 0xc3});
  EXPECT_EQ(rax(), 15u);
  expect_done({0xf3, 0x48, 0x0f, 0xbd, 0xc3});
  EXPECT_EQ(rax(), 48u);
  expect_done({0x66, 0xf3, 0x0f, 0xbd, 0xc3});
  EXPECT_EQ(rax() & 0xffff, 0u);
  EXPECT_TRUE(flag(kZero));
  rbx() = 0;
  expect_done({0xf3, 0x0f, 0xbd, 0xc3});
  EXPECT_EQ(rax(), 32u);
  EXPECT_TRUE(flag(kCarry));
}

TEST_F(CompleterTest, Crc32OfTheCheckString) {
  rax() = 0xffffffff;
  for (char c : std::string("123456789")) {
    rcx() = static_cast<uint8_t>(c);
    expect_done({0xf2, 0x0f, 0x38, 0xf0, 0xc1});  // crc32 eax, cl
  }
  EXPECT_EQ(~rax() & 0xffffffff, 0xe3069283u);
  rax() = 0;
  rcx() = 0x1234 << 8;
  cpu_.regs.general[kRbx] = 0;
  expect_done({0xf2, 0x0f, 0x38, 0xf0, 0xc5});  // crc32 eax, ch
  uint64_t by_high_byte = rax();
  rax() = 0;
  rcx() = 0x34;
  expect_done({0xf2, 0x0f, 0x38, 0xf0, 0xc1});
  EXPECT_EQ(rax(), by_high_byte);
}

TEST_F(CompleterTest, Movbe) {
  cpu_.regs.general[kRsi] = FakeCpu::kData;
  cpu_.poke<uint64_t>(FakeCpu::kData, 0x0102030405060708);
  expect_done({0x48, 0x0f, 0x38, 0xf0, 0x06});
  EXPECT_EQ(rax(), 0x0807060504030201u);
  expect_done({0x66, 0x0f, 0x38, 0xf1, 0x06});
  EXPECT_EQ(cpu_.peek<uint16_t>(FakeCpu::kData), 0x0102);
}

TEST_F(CompleterTest, Cmpxchg16b) {
  cpu_.regs.general[kRdi] = FakeCpu::kData;
  cpu_.poke<uint64_t>(FakeCpu::kData, 1);
  cpu_.poke<uint64_t>(FakeCpu::kData + 8, 2);
  rbx() = 3;
  rcx() = 4;
  expect_done({0xf0, 0x48, 0x0f, 0xc7, 0x0f});
  EXPECT_FALSE(flag(kZero));
  EXPECT_EQ(rax(), 1u);
  EXPECT_EQ(rdx(), 2u);
  EXPECT_EQ(cpu_.peek<uint64_t>(FakeCpu::kData), 1u);
  expect_done({0xf0, 0x48, 0x0f, 0xc7, 0x0f});
  EXPECT_TRUE(flag(kZero));
  EXPECT_EQ(cpu_.peek<uint64_t>(FakeCpu::kData), 3u);
  EXPECT_EQ(cpu_.peek<uint64_t>(FakeCpu::kData + 8), 4u);
  cpu_.regs.general[kRdi] += 8;
  expect_exception({0xf0, 0x48, 0x0f, 0xc7, 0x0f}, {kVectorGeneralProtection, 0, {}});
}

TEST_F(CompleterTest, Cmpxchg8b) {
  cpu_.regs.general[kRdi] = FakeCpu::kData;
  cpu_.poke<uint64_t>(FakeCpu::kData, 0x200000001);
  rax() = 1;
  rdx() = 2;
  rbx() = 3;
  rcx() = 4;
  expect_done({0xf0, 0x0f, 0xc7, 0x0f});
  EXPECT_TRUE(flag(kZero));
  EXPECT_EQ(cpu_.peek<uint64_t>(FakeCpu::kData), 0x400000003u);
}

TEST_F(CompleterTest, AddWithTwoCarries) {
  rax() = ~uint64_t{0};
  rbx() = 0;
  cpu_.regs.rflags |= kCarry;
  expect_done({0x66, 0x48, 0x0f, 0x38, 0xf6, 0xc3});  // adcx rax, rbx
  EXPECT_EQ(rax(), 0u);
  EXPECT_TRUE(flag(kCarry));
  EXPECT_FALSE(flag(kOverflow));
  rax() = 0xffffffff;
  rbx() = 1;
  expect_done({0xf3, 0x0f, 0x38, 0xf6, 0xc3});  // adox eax, ebx
  EXPECT_EQ(rax(), 0u);
  EXPECT_TRUE(flag(kOverflow));
}

TEST_F(CompleterTest, BitManipulation) {
  rbx() = 0b1011000;
  rcx() = 0b0001100;
  expect_done({0xc4, 0xe2, 0xf0, 0xf2, 0xc3});  // andn rax, rcx, rbx
  EXPECT_EQ(rax(), 0b1010000u);
  expect_done({0xc4, 0xe2, 0xf8, 0xf3, 0xcb});  // blsr rax, rbx
  EXPECT_EQ(rax(), 0b1010000u);
  expect_done({0xc4, 0xe2, 0xf8, 0xf3, 0xd3});  // blsmsk rax, rbx
  EXPECT_EQ(rax(), 0b1111u);
  expect_done({0xc4, 0xe2, 0xf8, 0xf3, 0xdb});  // blsi rax, rbx
  EXPECT_EQ(rax(), 0b1000u);
  EXPECT_TRUE(flag(kCarry));
  rcx() = 0x0303;
  expect_done({0xc4, 0xe2, 0xf0, 0xf7, 0xc3});  // bextr rax, rbx, rcx
  EXPECT_EQ(rax(), 0b011u);
  rcx() = 4;
  expect_done({0xc4, 0xe2, 0xf0, 0xf5, 0xc3});  // bzhi rax, rbx, rcx
  EXPECT_EQ(rax(), 0b1000u);
  rcx() = 0b101;
  expect_done({0xc4, 0xe2, 0xf3, 0xf5, 0xc3});  // pdep rax, rcx, rbx
  EXPECT_EQ(rax(), 0b1001000u & 0b1011000u);
  rcx() = 0b1001000;
  expect_done({0xc4, 0xe2, 0xf2, 0xf5, 0xc3});  // pext rax, rcx, rbx
  EXPECT_EQ(rax(), 0b101u);
}

TEST_F(CompleterTest, ShiftsWithoutFlags) {
  uint64_t flags = cpu_.regs.rflags |= kArithmetic;
  rbx() = 0x8000000000000001;
  rcx() = 65;
  expect_done({0xc4, 0xe2, 0xf1, 0xf7, 0xc3});  // shlx rax, rbx, rcx
  EXPECT_EQ(rax(), 2u);
  expect_done({0xc4, 0xe2, 0xf2, 0xf7, 0xc3});  // sarx
  EXPECT_EQ(rax(), 0xc000000000000000);
  expect_done({0xc4, 0xe2, 0xf3, 0xf7, 0xc3});  // shrx
  EXPECT_EQ(rax(), 0x4000000000000000u);
  expect_done({0xc4, 0xe3, 0xfb, 0xf0, 0xc3, 0x04});  // rorx rax, rbx, 4
  EXPECT_EQ(rax(), 0x1800000000000000u);
  rbx() = 0x80000000;
  expect_done({0xc4, 0xe2, 0x72, 0xf7, 0xc3});  // sarx eax, ebx, ecx
  EXPECT_EQ(rax(), 0xc0000000u);
  EXPECT_EQ(cpu_.regs.rflags, flags);
}

TEST_F(CompleterTest, Mulx) {
  rdx() = 0xffffffffffffffff;
  rbx() = 0x10;
  expect_done({0xc4, 0xe2, 0xf3, 0xf6, 0xc3});  // mulx rax, rcx, rbx
  EXPECT_EQ(rax(), 0xfu);
  EXPECT_EQ(rcx(), 0xfffffffffffffff0);
}

TEST_F(CompleterTest, RandomNumbersDiffer) {
  expect_done({0x48, 0x0f, 0xc7, 0xf0});
  uint64_t first = rax();
  EXPECT_TRUE(flag(kCarry));
  expect_done({0x48, 0x0f, 0xc7, 0xf8});
  EXPECT_NE(rax(), first);
}

TEST_F(CompleterTest, AccessControlFlag) {
  expect_done({0x0f, 0x01, 0xcb});
  EXPECT_TRUE(flag(kAlignmentCheck));
  expect_done({0x0f, 0x01, 0xca});
  EXPECT_FALSE(flag(kAlignmentCheck));
}

TEST_F(CompleterTest, Int3IsATrap) {
  cpu_.poke<uint64_t>(FakeCpu::kIdt + 3 * 16, uint64_t{0xee00} << 32);
  Outcome outcome = cpu_.run({0xcc});
  ASSERT_TRUE(std::holds_alternative<Completed>(outcome));
  EXPECT_EQ(cpu_.regs.rip, FakeCpu::kCode + 1);
  EXPECT_EQ(cpu_.injected, (Exception{kVectorBreakpoint, {}, {}}));
}

TEST_F(CompleterTest, IntNChecksTheGate) {
  cpu_.poke<uint64_t>(FakeCpu::kIdt + 0x80 * 16, uint64_t{0xee00} << 32);
  expect_done({0xcd, 0x80});
  EXPECT_EQ(cpu_.software_interrupt, 0x80);
  cpu_.regs.rip = 0x400000;
  cpu_.poke<uint16_t>(0x400000, 0x81cd);
  cpu_.be_user();
  expect_exception({0xcd, 0x81}, {kVectorGeneralProtection, 0x81 * 8 + 2, {}});
}

TEST_F(CompleterTest, FwaitWithoutTheUnit) {
  expect_done({0x9b});
  cpu_.sys.cr0 |= kCr0Ts;
  expect_exception({0x9b}, {kVectorDeviceNotAvailable, {}, {}});
}

TEST_F(CompleterTest, UndefinedOnPurpose) {
  expect_exception({0x0f, 0xb9, 0xc0}, {kVectorInvalidOpcode, {}, {}});
}

TEST_F(CompleterTest, ExtendedControlRegister) {
  rcx() = 0;
  expect_done({0x0f, 0x01, 0xd0});
  EXPECT_EQ(rax(), 0x67u);
  rax() = 7;
  rdx() = 0;
  expect_done({0x0f, 0x01, 0xd1});
  EXPECT_EQ(cpu_.xcr0_value, 7u);
  rax() = 2;
  expect_exception({0x0f, 0x01, 0xd1}, {kVectorGeneralProtection, 0, {}});
  cpu_.injected.reset();
  cpu_.sys.cr4 &= ~kCr4Osxsave;
  expect_exception({0x0f, 0x01, 0xd0}, {kVectorInvalidOpcode, {}, {}});
}

TEST_F(CompleterTest, TimeAndProcessorNumber) {
  cpu_.msrs[kMsrTsc] = 0x1122334455667788;
  cpu_.msrs[kMsrTscAux] = 5;
  expect_done({0x0f, 0x01, 0xf9});
  EXPECT_EQ(rax(), 0x55667788u);
  EXPECT_EQ(rdx(), 0x11223344u);
  EXPECT_EQ(rcx(), 5u);
  expect_done({0xf3, 0x0f, 0xc7, 0xfb});
  EXPECT_EQ(rbx(), 5u);
}

TEST_F(CompleterTest, SegmentBases) {
  rax() = 0x123456789000;
  expect_done({0xf3, 0x48, 0x0f, 0xae, 0xd0});  // wrfsbase rax
  EXPECT_EQ(cpu_.sys.segment(SegmentName::kFs).base, 0x123456789000u);
  expect_done({0xf3, 0x48, 0x0f, 0xae, 0xc3});  // rdfsbase rbx
  EXPECT_EQ(rbx(), 0x123456789000u);
  rax() = 0x8000000000000000;
  expect_exception({0xf3, 0x48, 0x0f, 0xae, 0xd8}, {kVectorGeneralProtection, 0, {}});
}

TEST_F(CompleterTest, SelectorQueries) {
  rbx() = FakeCpu::kCode32;
  expect_done({0x0f, 0x02, 0xc3});  // lar eax, ebx
  EXPECT_TRUE(flag(kZero));
  EXPECT_EQ(rax(), 0x00c09b00u);
  expect_done({0x0f, 0x03, 0xc3});  // lsl eax, ebx
  EXPECT_EQ(rax(), 0xffffffffu);
  expect_done({0x0f, 0x00, 0xeb});  // verw bx
  EXPECT_FALSE(flag(kZero)) << "code";
  rbx() = 0x1000;
  expect_done({0x0f, 0x03, 0xc3});
  EXPECT_FALSE(flag(kZero)) << "beyond the table";
  rbx() = 0;
  expect_done({0x0f, 0x00, 0xe3});  // verr bx
  EXPECT_FALSE(flag(kZero));
}

// ---- Faults and addresses ----

TEST_F(CompleterTest, MissingPageIsAPageFaultWithItsAddress) {
  cpu_.poke<uint64_t>(FakeCpu::kLastTable + (FakeCpu::kData >> 12) * 8, 0);
  cpu_.regs.general[kRsi] = FakeCpu::kData + 0x18;
  expect_exception({0xf3, 0x48, 0x0f, 0xb8, 0x06}, {kVectorPageFault, 0, FakeCpu::kData + 0x18});
}

TEST_F(CompleterTest, WriteToReadOnlyPage) {
  cpu_.poke<uint64_t>(FakeCpu::kLastTable + (FakeCpu::kData >> 12) * 8, FakeCpu::kData | 1);
  cpu_.regs.general[kRsi] = FakeCpu::kData;
  expect_exception({0x0f, 0x38, 0xf1, 0x06}, {kVectorPageFault, 3, FakeCpu::kData});
  cpu_.injected.reset();
  cpu_.sys.cr0 &= ~kCr0Wp;
  expect_done({0x0f, 0x38, 0xf1, 0x06});
}

TEST_F(CompleterTest, StoreAcrossAPageBorderIsAllOrNothing) {
  uint64_t next = FakeCpu::kData + 0x1000;
  cpu_.poke<uint64_t>(FakeCpu::kLastTable + (next >> 12) * 8, 0);
  cpu_.regs.general[kRsi] = next - 4;
  rax() = ~uint64_t{0};
  expect_exception({0x48, 0x0f, 0x38, 0xf1, 0x06}, {kVectorPageFault, 2, next});
  EXPECT_EQ(cpu_.peek<uint32_t>(next - 4), 0u);
}

TEST_F(CompleterTest, UserModeMayNotTouchSupervisorPages) {
  cpu_.be_user();
  cpu_.regs.rip = 0x500000;
  cpu_.regs.general[kRsi] = FakeCpu::kData;
  expect_exception({0xf3, 0x48, 0x0f, 0xb8, 0x06}, {kVectorPageFault, 5, FakeCpu::kData});
}

TEST_F(CompleterTest, SupervisorModeAccessPrevention) {
  cpu_.sys.cr4 |= kCr4Smap;
  cpu_.regs.general[kRsi] = FakeCpu::kUserData;
  expect_exception({0xf3, 0x48, 0x0f, 0xb8, 0x06}, {kVectorPageFault, 1, FakeCpu::kUserData});
  cpu_.injected.reset();
  cpu_.regs.rflags |= kAlignmentCheck;
  expect_done({0xf3, 0x48, 0x0f, 0xb8, 0x06});
}

TEST_F(CompleterTest, AccessedAndDirtyBits) {
  cpu_.regs.general[kRsi] = FakeCpu::kData;
  expect_done({0xf3, 0x48, 0x0f, 0xb8, 0x06});
  uint64_t entry = FakeCpu::kLastTable + (FakeCpu::kData >> 12) * 8;
  EXPECT_EQ(cpu_.peek<uint64_t>(entry) & 0x60, 0x20u);
  expect_done({0x0f, 0x38, 0xf1, 0x06});
  EXPECT_EQ(cpu_.peek<uint64_t>(entry) & 0x60, 0x60u);
}

TEST_F(CompleterTest, NonCanonicalAddress) {
  cpu_.regs.general[kRsi] = 0x8000000000000000;
  expect_exception({0xf3, 0x48, 0x0f, 0xb8, 0x06}, {kVectorGeneralProtection, 0, {}});
  cpu_.injected.reset();
  cpu_.regs.general[kRbp] = 0x8000000000000000;
  expect_exception({0xf3, 0x48, 0x0f, 0xb8, 0x45, 0x00}, {kVectorStackFault, 0, {}});
}

TEST_F(CompleterTest, CodeThatRunsIntoAMissingPage) {
  uint64_t end = FakeCpu::kCode + 0x1000;
  cpu_.poke<uint64_t>(FakeCpu::kLastTable + (end >> 12) * 8, 0);
  cpu_.regs.rip = end - 2;
  cpu_.poke<uint16_t>(end - 2, 0x0ff3);
  Outcome outcome = cpu_.complete_here();
  ASSERT_TRUE(std::holds_alternative<Completed>(outcome));
  EXPECT_EQ(cpu_.injected, (Exception{kVectorPageFault, 0x10, end}));
  // An instruction that ends before the border does not care.
  cpu_.injected.reset();
  cpu_.regs.rip = end - 1;
  expect_done({0x9b});
}

TEST_F(CompleterTest, OperandOutsideOfRamIsNotCompleted) {
  cpu_.poke<uint64_t>(FakeCpu::kLastTable + (FakeCpu::kData >> 12) * 8, 0xfee00000 | 3);
  cpu_.regs.general[kRsi] = FakeCpu::kData;
  Outcome outcome = cpu_.run({0xf3, 0x48, 0x0f, 0xb8, 0x06});
  ASSERT_TRUE(std::holds_alternative<CannotComplete>(outcome));
  EXPECT_NE(std::get<CannotComplete>(outcome).why.find("0xfee00000"), std::string::npos);
}

TEST_F(CompleterTest, UnknownInstructionIsNamed) {
  Outcome outcome = cpu_.run({0x0f, 0x58, 0xc1});  // addps
  ASSERT_TRUE(std::holds_alternative<CannotComplete>(outcome));
  EXPECT_NE(std::get<CannotComplete>(outcome).why.find("0f 58 c1"), std::string::npos);
  EXPECT_EQ(cpu_.regs.rip, FakeCpu::kCode);
}

TEST_F(CompleterTest, SixteenBitAddressing) {
  cpu_.enter_protected(false);
  cpu_.regs.rip = 0;
  cpu_.load(SegmentName::kDs, FakeCpu::kData16);
  rbx() = 0xfff0;
  cpu_.regs.general[kRsi] = 0x30;
  cpu_.poke<uint16_t>(0x20000 + 0x18, 0x7);
  expect_done({0xf3, 0x0f, 0xb8, 0x40, 0xf8});  // popcnt ax, [bx+si-8]
  EXPECT_EQ(rax(), 3u);
  cpu_.regs.general[kRsi] = 0xf;
  expect_exception({0xf3, 0x0f, 0xb8, 0x00}, {kVectorGeneralProtection, 0, {}});
}

TEST_F(CompleterTest, ThirtyTwoBitPagingWithLargePages) {
  cpu_.enter_protected(true);
  cpu_.sys.cr0 |= kCr0Pg;
  cpu_.sys.cr4 |= kCr4Pse;
  cpu_.sys.cr3 = 0x8000;
  cpu_.poke<uint32_t>(0x8000, 0x83);        // 0–4 MiB
  cpu_.poke<uint32_t>(0x8000 + 4, 0x9003);  // 4–8 MiB by a table
  cpu_.poke<uint32_t>(0x9000, 0x20003);     // 4 MiB is data
  cpu_.regs.general[kRsi] = 0x400000;
  cpu_.poke<uint32_t>(0x20000, 0xf);
  expect_done({0xf3, 0x0f, 0xb8, 0x06});
  EXPECT_EQ(rax(), 4u);
  cpu_.regs.general[kRsi] = 0x401000;
  expect_exception({0xf3, 0x0f, 0xb8, 0x06}, {kVectorPageFault, 0, 0x401000});
}

// ---- IRET ----

TEST_F(CompleterTest, IretSameLevel) {
  cpu_.enter_protected(true);
  cpu_.poke<uint32_t>(FakeCpu::kStack, 0x12345678);
  cpu_.poke<uint32_t>(FakeCpu::kStack + 4, FakeCpu::kCode32);
  cpu_.poke<uint32_t>(FakeCpu::kStack + 8, 0x202 | kCarry);
  ASSERT_TRUE(std::holds_alternative<Completed>(cpu_.run({0xcf})));
  EXPECT_FALSE(cpu_.injected.has_value());
  EXPECT_EQ(cpu_.regs.rip, 0x12345678u);
  EXPECT_EQ(cpu_.regs.general[kRsp], FakeCpu::kStack + 12);
  EXPECT_EQ(cpu_.regs.rflags, 0x203u);
}

TEST_F(CompleterTest, IretFromSixteenBitCodeWithBothWidths) {
  cpu_.enter_protected(false);
  cpu_.regs.rip = 0x40;
  cpu_.regs.general[kRsp] = 0x700;
  cpu_.poke<uint16_t>(0x20700, 0x1234);
  cpu_.poke<uint16_t>(0x20702, FakeCpu::kCode16);
  cpu_.poke<uint16_t>(0x20704, 0x46);
  ASSERT_TRUE(std::holds_alternative<Completed>(cpu_.run({0xcf})));
  EXPECT_EQ(cpu_.regs.rip, 0x1234u);
  EXPECT_EQ(cpu_.regs.general[kRsp], 0x706u);
  EXPECT_EQ(cpu_.regs.rflags, 0x46u);
  cpu_.poke<uint32_t>(0x20706, 0x55);
  cpu_.poke<uint32_t>(0x2070a, FakeCpu::kCode32);
  cpu_.poke<uint32_t>(0x2070e, 0x2);
  ASSERT_TRUE(std::holds_alternative<Completed>(cpu_.run({0x66, 0xcf})));
  EXPECT_EQ(cpu_.regs.rip, 0x55u);
  EXPECT_TRUE(cpu_.sys.segment(SegmentName::kCs).big);
  EXPECT_EQ(cpu_.regs.general[kRsp], 0x712u);
}

TEST_F(CompleterTest, IretToTheOuterLevel) {
  cpu_.enter_protected(true);
  cpu_.poke<uint32_t>(FakeCpu::kStack, 0x400000);
  cpu_.poke<uint32_t>(FakeCpu::kStack + 4, FakeCpu::kUserCode32 | 3);
  cpu_.poke<uint32_t>(FakeCpu::kStack + 8, 0x202);
  cpu_.poke<uint32_t>(FakeCpu::kStack + 12, 0x500000);
  cpu_.poke<uint32_t>(FakeCpu::kStack + 16, FakeCpu::kUserData32 | 3);
  ASSERT_TRUE(std::holds_alternative<Completed>(cpu_.run({0xcf})));
  EXPECT_EQ(cpu_.sys.cpl(), 3);
  EXPECT_EQ(cpu_.regs.rip, 0x400000u);
  EXPECT_EQ(cpu_.regs.general[kRsp], 0x500000u);
  EXPECT_TRUE(cpu_.sys.segment(SegmentName::kDs).unusable) << "a segment of level 0";
  EXPECT_EQ(cpu_.peek<uint8_t>(FakeCpu::kGdt + FakeCpu::kUserCode32 + 5), 0xfb) << "accessed";
}

TEST_F(CompleterTest, IretRefusesBadFrames) {
  cpu_.enter_protected(true);
  cpu_.poke<uint32_t>(FakeCpu::kStack + 4, 0);
  expect_exception({0xcf}, {kVectorGeneralProtection, 0, {}});
  cpu_.poke<uint32_t>(FakeCpu::kStack + 4, FakeCpu::kData32);
  expect_exception({0xcf}, {kVectorGeneralProtection, FakeCpu::kData32, {}});
  cpu_.poke<uint32_t>(FakeCpu::kStack + 4, FakeCpu::kCode32 | 3);
  expect_exception({0xcf}, {kVectorGeneralProtection, FakeCpu::kCode32, {}});
}

TEST_F(CompleterTest, IretAtOuterLevelKeepsTheInterruptFlag) {
  cpu_.enter_protected(true);
  cpu_.load(SegmentName::kCs, FakeCpu::kUserCode32 | 3);
  cpu_.load(SegmentName::kSs, FakeCpu::kUserData32 | 3);
  cpu_.poke<uint32_t>(FakeCpu::kStack, 0x10);
  cpu_.poke<uint32_t>(FakeCpu::kStack + 4, FakeCpu::kUserCode32 | 3);
  cpu_.poke<uint32_t>(FakeCpu::kStack + 8, 0x3202);
  ASSERT_TRUE(std::holds_alternative<Completed>(cpu_.run({0xcf})));
  EXPECT_EQ(cpu_.regs.rflags, 2u) << "neither IF nor IOPL";
}

// kvm_pvm pushes frames at linear ESP. The stack of this guest begins at 0x20000.
TEST_F(CompleterTest, IretFindsAFrameThatTheHostPushedWithoutTheBaseOfSs) {
  auto push = [&](uint64_t at, uint32_t rip, uint32_t cs, uint32_t flags) {
    cpu_.poke<uint32_t>(at, rip);
    cpu_.poke<uint32_t>(at + 4, cs);
    cpu_.poke<uint32_t>(at + 8, flags);
  };
  auto run = [&] {
    cpu_.enter_protected(true);
    cpu_.load(SegmentName::kSs, FakeCpu::kData16);
    cpu_.regs.rip = 0x40;
    cpu_.regs.rflags = 2;
    cpu_.regs.general[kRsp] = 0x700;
    return std::holds_alternative<Completed>(cpu_.run({0xcf})) && !cpu_.injected;
  };
  push(0x700, 0x1111, FakeCpu::kCode32, 0x246);
  push(0x20700, 0x569ae, 0x34, 0x837d7);  // what happened to lie on the stack
  cpu_.ignore_ss_base = true;
  ASSERT_TRUE(run());
  EXPECT_EQ(cpu_.regs.rip, 0x1111u);
  EXPECT_EQ(cpu_.regs.general[kRsp], 0x70cu);
  EXPECT_EQ(cpu_.regs.rflags, 0x246u);

  push(0x20700, 0x2222, FakeCpu::kCode32, 0x202);  // a frame that the guest built itself
  ASSERT_TRUE(run());
  EXPECT_EQ(cpu_.regs.rip, 0x2222u);

  push(0x20700, 0x569ae, 0x34, 0x837d7);
  cpu_.ignore_ss_base = false;  // a processor that does as it should
  EXPECT_FALSE(run());
}

}  // namespace
}  // namespace calf::insn
