// Instructions that KVM's emulator may not know, and SYSCALL, on the real /dev/kvm. What comes out
// is the same on every host: where the processor virtualises, it does the work itself.
#include "vmm/cpu_assist.h"

#include <cpuid.h>
#include <gtest/gtest.h>

#include "tests/kvm/mini_machine.h"

namespace calf::vmm {
namespace {

constexpr uint64_t kCode = 0x1000;
constexpr uint64_t kKernelEntry = 0x1800;
constexpr uint64_t kFaultHandler = 0x1C00;
constexpr uint64_t kIdtPointer = 0x2010;
constexpr uint64_t kResults = 0x3000;
constexpr uint64_t kArea = 0x5000;
constexpr uint64_t kSavedArea = 0x6000;
constexpr uint64_t kStack = 0x8000;
constexpr uint64_t kGdt = 0x9000;
constexpr uint64_t kIdt = 0xA000;
constexpr uint64_t kTss = 0xB000;
constexpr uint64_t kTables = 0xC000;  // four pages
constexpr uint64_t kUserCode = 0x200000;
constexpr uint64_t kUserStack = 0x210000;
constexpr uint64_t kInterruptStack = 0x20000;

// 64-bit mode, 0–2 MiB for the kernel, 2–3 MiB for the user, nothing beyond.
class CpuAssistTest : public testing::Test {
 protected:
  void prepare() {
    machine_ = std::make_unique<MiniMachine>();
    Result<void> prepared = CpuAssist::prepare(*machine_->vm);
    ASSERT_TRUE(prepared.ok()) << prepared.error().message();
    assist_ = std::make_unique<CpuAssist>(machine_->vcpus, machine_->ram->guest_memory());
    machine_->completer = assist_.get();
    poke64(kTables, kTables + 0x1007);
    poke64(kTables + 0x1000, kTables + 0x2007);
    poke64(kTables + 0x2000, 0x83);
    poke64(kTables + 0x2008, kTables + 0x3007);
    for (uint64_t i = 0; i < 256; ++i)
      poke64(kTables + 0x3000 + 8 * i, (kUserCode + 4096 * i) | 7);
    poke64(kGdt + 0x10, 0x00AF9B000000FFFF);  // kernel code, kernel data
    poke64(kGdt + 0x18, 0x00CF93000000FFFF);
    poke64(kGdt + 0x28, 0x00CFF3000000FFFF);  // user data, user code
    poke64(kGdt + 0x30, 0x00AFFB000000FFFF);
    poke64(kGdt + 0x40, 0x0000890000000067 | kTss << 16);
    poke64(kTss + 4, kInterruptStack);
    poke64(kIdt + 14 * 16, kFaultHandler | 0x8E0000100000);
    poke64(kIdtPointer, 0xFFF | kIdt << 16);
  }
  void poke64(uint64_t address, uint64_t value) {
    ASSERT_TRUE(machine_->ram->guest_memory().write_object(devices::Gpa{address}, value));
  }
  std::optional<Request> run() {
    firmware::EntryState entry;
    entry.mode = firmware::CpuMode::kLong64;
    entry.rip = kCode;
    entry.rsp = kStack;
    entry.code_segment = 0x10;
    entry.data_segment = 0x18;
    entry.gdt = devices::Gpa{kGdt};
    entry.gdt_limit = 0x4F;
    entry.page_tables = devices::Gpa{kTables};
    return machine_->run(entry, std::chrono::seconds(60));
  }
  uint64_t result(uint64_t offset) { return machine_->peek<uint64_t>(kResults + offset); }

  std::unique_ptr<CpuAssist> assist_;
  std::unique_ptr<MiniMachine> machine_;  // goes first
};

TEST_F(CpuAssistTest, InstructionsGiveWhatTheProcessorGives) {
  CALF_NEED_KVM();
  prepare();
  poke64(kResults + 0x20, 1);     // equal to RDX:RAX
  poke64(kResults + 0x30, 0x99);  // not equal
  machine_->load(kCode,
                 {
                     0xBF, 0x00, 0x30, 0x00, 0x00,                                // mov edi,3000h
                     0x48, 0xBB, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0xF0, 0xF0,  // mov rbx,imm
                     0xF3, 0x48, 0x0F, 0xB8, 0xC3,                                // popcnt rax,rbx
                     0x48, 0x89, 0x07,                                            // mov [rdi],rax
                     0xB8, 0xFF, 0xFF, 0xFF, 0xFF,                                // mov eax,-1
                     0xF2, 0x48, 0x0F, 0x38, 0xF1, 0xC3,                          // crc32 rax,rbx
                     0x48, 0x89, 0x47, 0x08,                                      // mov [rdi+8],rax
                     0xB8, 0x01, 0x00, 0x00, 0x00,                                // mov eax,1
                     0x31, 0xD2,                                                  // xor edx,edx
                     0xBB, 0x55, 0x00, 0x00, 0x00,                                // mov ebx,55h
                     0xB9, 0x66, 0x00, 0x00, 0x00,                                // mov ecx,66h
                     0xF0, 0x48, 0x0F, 0xC7, 0x4F, 0x20,  // lock cmpxchg16b [rdi+20h]
                     0xF0, 0x48, 0x0F, 0xC7, 0x4F, 0x30,  // lock cmpxchg16b [rdi+30h]
                     0x48, 0x89, 0x47, 0x18,              // mov [rdi+18h],rax
                     0x9B,                                // fwait
                     0xE6, 0xF4,                          // out F4h,al
                     0xF4,                                // hlt
                 });
  std::optional<Request> end = run();
  ASSERT_TRUE(end.has_value());
  ASSERT_EQ(end->kind, Request::Kind::kDebugExit) << end->text;
  EXPECT_EQ(result(0), 9u) << "popcnt";
  uint64_t crc = 0xFFFFFFFF;
  for (uint64_t bit = 0; bit < 64; ++bit) {
    uint64_t next = (crc ^ (0xF0F0000000000001 >> bit)) & 1;
    crc = crc >> 1 ^ (next != 0 ? 0x82F63B78 : 0);
  }
  EXPECT_EQ(result(8), crc) << "crc32";
  EXPECT_EQ(result(0x20), 0x55u) << "cmpxchg16b that stores";
  EXPECT_EQ(result(0x28), 0x66u);
  EXPECT_EQ(result(0x30), 0x99u) << "cmpxchg16b that does not";
  EXPECT_EQ(result(0x18), 0x99u);
}

TEST_F(CpuAssistTest, ProcessorStateIsRestoredAndSaved) {
  CALF_NEED_KVM();
  insn::CpuidLeaf features;
  __cpuid(1, features.eax, features.ebx, features.ecx, features.edx);
  if ((features.ecx & bit_XSAVE) == 0) GTEST_SKIP() << "needs a processor with XSAVE";
  prepare();
  poke64(kArea + 24, 0x1FA0);  // MXCSR
  poke64(kArea + 160 + 3 * 16, 0x1122334455667788);
  poke64(kArea + 512, 2);  // SSE is in the area, x87 is initial
  machine_->load(kCode, {
                            0xBF, 0x00, 0x30, 0x00, 0x00,  // mov edi,3000h
                            0x0F, 0x20, 0xE0,              // mov rax,cr4
                            0x0D, 0x00, 0x06, 0x04, 0x00,  // or eax,40600h
                            0x0F, 0x22, 0xE0,              // mov cr4,rax
                            0x31, 0xC9,                    // xor ecx,ecx
                            0xB8, 0x03, 0x00, 0x00, 0x00,  // mov eax,3
                            0x31, 0xD2,                    // xor edx,edx
                            0x0F, 0x01, 0xD1,              // xsetbv
                            0x0F, 0x01, 0xD0,              // xgetbv
                            0x89, 0x47, 0x10,              // mov [rdi+10h],eax
                            0xBE, 0x00, 0x50, 0x00, 0x00,  // mov esi,5000h
                            0x48, 0x0F, 0xAE, 0x2E,        // xrstor64 [rsi]
                            0xBE, 0x00, 0x60, 0x00, 0x00,  // mov esi,6000h
                            0x48, 0x0F, 0xAE, 0x26,        // xsave64 [rsi]
                            0xE6, 0xF4,                    // out F4h,al
                            0xF4,                          // hlt
                        });
  std::optional<Request> end = run();
  ASSERT_TRUE(end.has_value());
  ASSERT_EQ(end->kind, Request::Kind::kDebugExit) << end->text;
  EXPECT_EQ(result(0x10), 3u) << "xgetbv";
  EXPECT_EQ(machine_->peek<uint32_t>(kSavedArea + 24), 0x1FA0u) << "MXCSR";
  EXPECT_EQ(machine_->peek<uint64_t>(kSavedArea + 160 + 3 * 16), 0x1122334455667788u) << "XMM3";
  EXPECT_EQ(machine_->peek<uint16_t>(kSavedArea), 0x37F) << "FCW";
}

TEST_F(CpuAssistTest, SyscallEntersTheKernelAndPageFaultsStillWork) {
  CALF_NEED_KVM();
  prepare();
  machine_->load(kCode, {
                            0x0F, 0x01, 0x1C, 0x25, 0x10, 0x20, 0x00, 0x00,  // lidt [2010h]
                            0xB8, 0x40, 0x00, 0x00, 0x00,                    // mov eax,40h
                            0x0F, 0x00, 0xD8,                                // ltr ax
                            0xB9, 0x81, 0x00, 0x00, 0xC0,                    // mov ecx,STAR
                            0x31, 0xC0,                                      // xor eax,eax
                            0xBA, 0x10, 0x00, 0x23, 0x00,                    // mov edx,230010h
                            0x0F, 0x30,                                      // wrmsr
                            0xFF, 0xC1,                                      // inc ecx
                            0xB8, 0x00, 0x18, 0x00, 0x00,                    // mov eax,1800h
                            0x31, 0xD2,                                      // xor edx,edx
                            0x0F, 0x30,                                      // wrmsr (LSTAR)
                            0xB9, 0x84, 0x00, 0x00, 0xC0,                    // mov ecx,FMASK
                            0xB8, 0x00, 0x07, 0x00, 0x00,                    // mov eax,700h
                            0x0F, 0x30,                                      // wrmsr
                            0xB9, 0x80, 0x00, 0x00, 0xC0,                    // mov ecx,EFER
                            0x0F, 0x32,                                      // rdmsr
                            0x83, 0xC8, 0x01,                                // or eax,SCE
                            0x0F, 0x30,                                      // wrmsr
                            0x6A, 0x2B,                                      // push 2Bh
                            0x68, 0x00, 0x00, 0x21, 0x00,                    // push 210000h
                            0x68, 0x02, 0x02, 0x00, 0x00,                    // push 202h
                            0x6A, 0x33,                                      // push 33h
                            0x68, 0x00, 0x00, 0x20, 0x00,                    // push 200000h
                            0x48, 0xCF,                                      // iretq
                        });
  machine_->load(kUserCode,
                 {
                     0x48, 0x8B, 0x1C, 0x25, 0x00, 0x00, 0x30, 0x00,  // mov rbx,[300000h]: faults
                     0x41, 0xB8, 0x34, 0x12, 0x00, 0x00,              // mov r8d,1234h
                     0x0F, 0x05,                                      // syscall
                     0x4D, 0x89, 0xC1,                                // mov r9,r8
                     0x0F, 0x05,                                      // syscall
                 });
  machine_->load(kKernelEntry,
                 {
                     0x48, 0x89, 0x0C, 0x25, 0x00, 0x30, 0x00, 0x00,  // mov [3000h],rcx
                     0x4C, 0x89, 0x1C, 0x25, 0x08, 0x30, 0x00, 0x00,  // mov [3008h],r11
                     0x48, 0x89, 0x24, 0x25, 0x10, 0x30, 0x00, 0x00,  // mov [3010h],rsp
                     0x66, 0x8C, 0xC8,                                // mov ax,cs
                     0x66, 0x89, 0x04, 0x25, 0x18, 0x30, 0x00, 0x00,  // mov [3018h],ax
                     0xFF, 0x04, 0x25, 0x20, 0x30, 0x00, 0x00,        // inc [3020h]
                     0x83, 0x3C, 0x25, 0x20, 0x30, 0x00, 0x00, 0x02,  // cmp [3020h],2
                     0x74, 0x09,                                      // je 1f
                     0x41, 0xB8, 0x78, 0x56, 0x00, 0x00,              // mov r8d,5678h
                     0x48, 0x0F, 0x07,                                // sysretq
                     0x4C, 0x89, 0x0C, 0x25, 0x28, 0x30, 0x00, 0x00,  // 1: mov [3028h],r9
                     0xE6, 0xF4,                                      // out F4h,al
                     0xF4,                                            // hlt
                 });
  // Skips the instruction of 8 bytes that faulted.
  machine_->load(kFaultHandler, {
                                    0x50,                                      // push rax
                                    0xFF, 0x04, 0x25, 0x30, 0x30, 0x00, 0x00,  // inc [3030h]
                                    0x48, 0x83, 0x44, 0x24, 0x10, 0x08,        // add [rsp+10h],8
                                    0x58,                                      // pop rax
                                    0x48, 0x83, 0xC4, 0x08,                    // add rsp,8
                                    0x48, 0xCF,                                // iretq
                                });
  std::optional<Request> end = run();
  ASSERT_TRUE(end.has_value());
  ASSERT_EQ(end->kind, Request::Kind::kDebugExit) << end->text;
  EXPECT_EQ(result(0x20) & 0xFFFFFFFF, 2u) << "two system calls";
  EXPECT_EQ(result(0x30) & 0xFFFFFFFF, 1u) << "one page fault seen by the guest";
  EXPECT_EQ(result(0x28), 0x5678u) << "the user went on after the first";
  EXPECT_EQ(result(0), kUserCode + 21) << "RCX: behind the second";
  EXPECT_EQ(result(8), 0x202u) << "R11";
  EXPECT_EQ(result(0x10), kUserStack) << "SYSCALL does not switch stacks";
  EXPECT_EQ(result(0x18) & 0xFFFF, 0x10u);
}

TEST_F(CpuAssistTest, UnknownInstructionIsReportedWithItsBytes) {
  CALF_NEED_KVM();
  if (!CpuAssist::host_is_pvm()) GTEST_SKIP() << "needs a KVM that emulates (kvm_pvm)";
  prepare();
  machine_->load(kCode, {0x0F, 0x58, 0xC1});  // addps xmm0, xmm1
  std::optional<Request> end = run();
  ASSERT_TRUE(end.has_value());
  ASSERT_EQ(end->kind, Request::Kind::kFailure);
  EXPECT_NE(end->text.find("0f 58 c1"), std::string::npos) << end->text;
  EXPECT_NE(end->text.find("rip 0000000000001000"), std::string::npos) << end->text;
}

}  // namespace
}  // namespace calf::vmm
