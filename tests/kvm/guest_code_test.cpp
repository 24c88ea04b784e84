// Guests of a few bytes on the real /dev/kvm. Each listing's assembly stands beside its bytes.
#include <gtest/gtest.h>

#include <cstring>

#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/kvm/mini_machine.h"

namespace calf::vmm {
namespace {

using Kind = Request::Kind;

constexpr uint16_t kCode = 0x1000;

TEST(GuestCode, WritesToAPort) {
  CALF_NEED_KVM();
  MiniMachine machine;
  machine.load(kCode, {
                          0xB0, 0x2A,  // mov al, 2Ah
                          0xE6, 0xF4,  // out F4h, al
                          0xF4,        // hlt
                      });
  std::optional<Request> end = machine.run(kCode);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->kind, Kind::kDebugExit);
  EXPECT_EQ(end->value, 0x2Au);
}

TEST(GuestCode, ReadsWhatAChipAnswersAndOnesWhereNoneIs) {
  CALF_NEED_KVM();
  MiniMachine machine;
  FakeChip chip;
  chip.on_read = [](uint64_t offset, std::span<uint8_t> data) {
    data[0] = static_cast<uint8_t>(0x50 + offset);
  };
  ASSERT_TRUE(machine.ports.map({0x300, 8}, chip).ok());
  machine.load(kCode, {
                          0xBA, 0x03, 0x03,  // mov dx, 303h
                          0xEC,              // in al, dx
                          0xA2, 0x00, 0x20,  // mov [2000h], al
                          0xBA, 0x00, 0x04,  // mov dx, 400h
                          0xED,              // in ax, dx
                          0xA3, 0x02, 0x20,  // mov [2002h], ax
                          0xE6, 0xF4,        // out F4h, al
                          0xF4,              // hlt
                      });
  ASSERT_TRUE(machine.run(kCode).has_value());
  EXPECT_EQ(machine.peek<uint8_t>(0x2000), 0x53);
  EXPECT_EQ(machine.peek<uint16_t>(0x2002), 0xFFFF);
}

TEST(GuestCode, StringOutputReachesTheChipInOrder) {
  CALF_NEED_KVM();
  MiniMachine machine;
  FakeChip chip;
  std::string seen;
  chip.on_write = [&](uint64_t, std::span<const uint8_t> data) {
    seen.push_back(static_cast<char>(data[0]));
  };
  ASSERT_TRUE(machine.ports.map({0x300, 1}, chip).ok());
  machine.load(0x2000, {'c', 'a', 'l', 'f', ' ', 'r', 'u', 'n', 's'});
  machine.load(kCode, {
                          0xBE, 0x00, 0x20,  // mov si, 2000h
                          0xBA, 0x00, 0x03,  // mov dx, 300h
                          0xB9, 0x09, 0x00,  // mov cx, 9
                          0xF3, 0x6E,        // rep outsb
                          0xE6, 0xF4,        // out F4h, al
                          0xF4,              // hlt
                      });
  ASSERT_TRUE(machine.run(kCode).has_value());
  EXPECT_EQ(seen, "calf runs");
}

TEST(GuestCode, MemoryMappedRegisters) {
  CALF_NEED_KVM();
  MiniMachine machine;
  FakeChip chip;
  uint64_t written_offset = 0;
  uint16_t written = 0;
  chip.on_write = [&](uint64_t offset, std::span<const uint8_t> data) {
    written_offset = offset;
    if (data.size() == 2) std::memcpy(&written, data.data(), 2);
  };
  chip.on_read = [](uint64_t, std::span<uint8_t> data) { std::ranges::fill(data, 0xA5); };
  ASSERT_TRUE(machine.mmio.map({0xA0000, 0x1000}, chip).ok());
  machine.load(kCode, {
                          0xB8, 0x00, 0xA0,                    // mov ax, A000h
                          0x8E, 0xD8,                          // mov ds, ax
                          0xC7, 0x06, 0x10, 0x00, 0x34, 0x12,  // mov word [10h], 1234h
                          0xA0, 0x20, 0x00,                    // mov al, [20h]
                          0xE6, 0xF4,                          // out F4h, al
                          0xF4,                                // hlt
                      });
  std::optional<Request> end = machine.run(kCode);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->value, 0xA5u);
  EXPECT_EQ(written_offset, 0x10u);
  EXPECT_EQ(written, 0x1234);
}

// What it does with KVM's buses must not stay: a write there would be kept back otherwise.
TEST(GuestCode, AHastenedGracePeriodLeavesNothingAtItsAddress) {
  CALF_NEED_KVM();
  MiniMachine machine;
  FakeChip chip;
  unsigned writes = 0;
  chip.on_write = [&](uint64_t offset, std::span<const uint8_t>) {
    EXPECT_EQ(offset, 0x10u);
    ++writes;
  };
  ASSERT_TRUE(machine.mmio.map({0xA0000, 0x1000}, chip).ok());
  for (int i = 0; i < 3; ++i) {
    Result<void> hastened = machine.vm->hasten_grace_period(0xA0010);
    ASSERT_TRUE(hastened.ok()) << hastened.error().message();
  }
  machine.load(kCode, {
                          0xB8, 0x00, 0xA0,                                // mov ax, A000h
                          0x8E, 0xD8,                                      // mov ds, ax
                          0x66, 0xC7, 0x06, 0x10, 0x00, 0x34, 0x12, 0, 0,  // mov dword [10h], 1234h
                          0xE6, 0xF4,                                      // out F4h, al
                          0xF4,                                            // hlt
                      });
  ASSERT_TRUE(machine.run(kCode).has_value());
  EXPECT_EQ(writes, 1u);
}

TEST(GuestCode, WritesToTheFirmwareAreaAreLost) {
  CALF_NEED_KVM();
  MiniMachine machine;
  machine.load(0xE0010, {0x77});
  machine.load(kCode, {
                          0xB8, 0x00, 0xE0,              // mov ax, E000h
                          0x8E, 0xD8,                    // mov ds, ax
                          0xC6, 0x06, 0x10, 0x00, 0x11,  // mov byte [10h], 11h
                          0xA0, 0x10, 0x00,              // mov al, [10h]
                          0xE6, 0xF4,                    // out F4h, al
                          0xF4,                          // hlt
                      });
  std::optional<Request> end = machine.run(kCode);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->value, 0x77u);
}

TEST(GuestCode, TripleFaultIsAReset) {
  CALF_NEED_KVM();
  MiniMachine machine;
  machine.load(kCode, {
                          0x0F, 0x01, 0x1E, 0x00, 0x20,  // lidt [2000h]: no vectors
                          0x0F, 0x20, 0xC0,              // mov eax, cr0
                          0x66, 0x83, 0xC8, 0x01,        // or eax, 1
                          0x0F, 0x22, 0xC0,              // mov cr0, eax
                          0x31, 0xDB,                    // xor bx, bx
                          0xF7, 0xF3,                    // div bx
                          0xE6, 0xF4,                    // out F4h, al
                          0xF4,                          // hlt
                      });
  std::optional<Request> end = machine.run(kCode);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->kind, Kind::kReset);
  EXPECT_EQ(end->reset_reason, devices::ResetReason::kTripleFault);
}

TEST(GuestCode, RunsAgainAfterAReset) {
  CALF_NEED_KVM();
  MiniMachine machine;
  machine.load(kCode, {
                          0xFE, 0x06, 0x00, 0x20,  // inc byte [2000h]
                          0xA0, 0x00, 0x20,        // mov al, [2000h]
                          0xE6, 0xF4,              // out F4h, al
                          0xEB, 0xFE,              // jmp $
                      });
  for (unsigned i = 1; i <= 3; ++i) {
    std::optional<Request> end = machine.run(kCode);
    ASSERT_TRUE(end.has_value());
    EXPECT_EQ(end->value, i);
    machine.reset_vcpus();
  }
}

TEST(GuestCode, AllMemoryIsWriteBack) {
  CALF_NEED_KVM();
  MiniMachine machine;
  uint64_t default_type = *machine.vcpus[0].msr(0x2FF);
  EXPECT_EQ(default_type & 0xFF, 6u) << "write-back";
  EXPECT_NE(default_type & 1u << 11, 0u) << "MTRRs are on";
  // Ranges of the first MiB, which are uncacheable until somebody sets them.
  bool fixed_ranges = (default_type & 1u << 10) != 0;
  EXPECT_TRUE(!fixed_ranges || *machine.vcpus[0].msr(0x26F) == 0x0606060606060606);
}

TEST(GuestCode, AResetDisablesWhatXsetbvHadEnabled) {
  CALF_NEED_KVM();
  MiniMachine machine;
  kvm_xcrs xcrs = *machine.vcpus[0].xcrs();
  if (xcrs.nr_xcrs == 0) GTEST_SKIP() << "needs a processor with XSAVE";
  EXPECT_EQ(xcrs.xcrs[0].value, 1u) << "power-on: x87 only";
  xcrs.xcrs[0].value = 3;
  ASSERT_TRUE(machine.vcpus[0].set_xcrs(xcrs).ok());
  machine.reset_vcpus();
  EXPECT_EQ(machine.vcpus[0].xcrs()->xcrs[0].value, 1u);
}

TEST(GuestCode, AnInterruptLineWakesAHaltedProcessor) {
  CALF_NEED_KVM();
  MiniMachine machine;
  ASSERT_TRUE(machine.irq->apply_bios_setup().ok());
  auto line = machine.irq->make_line(1);
  FakeChip chip;
  chip.on_write = [&](uint64_t, std::span<const uint8_t>) { line->pulse(); };
  ASSERT_TRUE(machine.ports.map({0x300, 1}, chip).ok());
  machine.load(4 * 9, {0x00, 0x30, 0x00, 0x00});  // vector 9 (IRQ1) -> 0:3000h
  machine.load(0x3000, {
                           0xB0, 0x99,  // mov al, 99h
                           0xE6, 0xF4,  // out F4h, al
                           0xF4,        // hlt
                       });
  machine.load(kCode, {
                          0xB0, 0xFD,        // mov al, FDh   (only IRQ1)
                          0xE6, 0x21,        // out 21h, al
                          0xBA, 0x00, 0x03,  // mov dx, 300h
                          0xEE,              // out dx, al
                          0xFB,              // sti
                          0xF4,              // hlt
                          0xB0, 0x11,        // mov al, 11h   (too far)
                          0xE6, 0xF4,        // out F4h, al
                      });
  std::optional<Request> end = machine.run(kCode);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->value, 0x99u);
}

TEST(GuestCode, AMessageSignalledInterruptArrives) {
  CALF_NEED_KVM();
  MiniMachine machine;
  auto route = machine.irq->make_route();
  ASSERT_TRUE(route.ok());
  (*route)->trigger();  // before the first message: nothing
  // Physical destination 0, fixed delivery, vector 40h.
  ASSERT_TRUE((*route)->set_message(0xFEE00000, 0x4040).ok());
  FakeChip chip;
  chip.on_write = [&](uint64_t, std::span<const uint8_t>) { (*route)->trigger(); };
  ASSERT_TRUE(machine.ports.map({0x300, 1}, chip).ok());
  machine.load(4 * 0x40, {0x00, 0x30, 0x00, 0x00});
  machine.load(0x3000, {
                           0xB0, 0x40,  // mov al, 40h
                           0xE6, 0xF4,  // out F4h, al
                           0xF4,        // hlt
                       });
  machine.load(kCode, {
                          0xBA, 0x00, 0x03,  // mov dx, 300h
                          0xEE,              // out dx, al
                          0xFB,              // sti
                          0xF4,              // hlt
                          0xF4,              // hlt
                      });
  std::optional<Request> end = machine.run(kCode);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->value, 0x40u);
}

TEST(GuestCode, ADoorbellSignalsAnEventfdInsteadOfAnExit) {
  CALF_NEED_KVM();
  MiniMachine machine;
  FakeChip chip;
  bool exited = false;
  chip.on_write = [&](uint64_t, std::span<const uint8_t>) { exited = true; };
  ASSERT_TRUE(machine.mmio.map({0xA0000, 0x1000}, chip).ok());
  Fd event(::eventfd(0, EFD_NONBLOCK));
  ASSERT_TRUE(machine.irq->attach(0xA0004, 2, event.get()).ok());
  machine.load(kCode, {
                          0xB8, 0x00, 0xA0,                    // mov ax, A000h
                          0x8E, 0xD8,                          // mov ds, ax
                          0xC7, 0x06, 0x04, 0x00, 0x01, 0x00,  // mov word [4], 1
                          0xE6, 0xF4,                          // out F4h, al
                          0xF4,                                // hlt
                      });
  ASSERT_TRUE(machine.run(kCode).has_value());
  uint64_t count = 0;
  EXPECT_EQ(::read(event.get(), &count, sizeof count), ssize_t{8});
  EXPECT_EQ(count, 1u);
  EXPECT_FALSE(exited);
  machine.irq->detach(0xA0004, 2, event.get());
}

// Sends INIT and startup interrupts through the LAPIC's register page, which real mode reaches by
// way of a 32-bit segment ("unreal mode").
TEST(GuestCode, StartsASecondProcessor) {
  CALF_NEED_KVM();
  MiniMachine machine(2);
  // GDT at 2000h: null, flat data; pointer at 2010h.
  machine.load(0x2000, {0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0x93, 0xCF, 0});
  machine.load(0x2010, {0x0F, 0x00, 0x00, 0x20, 0x00, 0x00});
  machine.load(kCode, {
                          0x0F, 0x01, 0x16, 0x10, 0x20,        // lgdt [2010h]
                          0x0F, 0x20, 0xC0,                    // mov eax, cr0
                          0x66, 0x83, 0xC8, 0x01,              // or eax, 1
                          0x0F, 0x22, 0xC0,                    // mov cr0, eax
                          0xBB, 0x08, 0x00,                    // mov bx, 8
                          0x8E, 0xC3,                          // mov es, bx
                          0x66, 0x83, 0xE0, 0xFE,              // and eax, -2
                          0x0F, 0x22, 0xC0,                    // mov cr0, eax
                          0x66, 0xBF, 0x00, 0x03, 0xE0, 0xFE,  // mov edi, FEE00300h
                          0x66, 0xB8, 0x00, 0x45, 0x0C, 0x00,  // mov eax, C4500h: INIT to others
                          0x67, 0x66, 0x26, 0x89, 0x07,        // mov es:[edi], eax
                          0x66, 0xB8, 0x03, 0x46, 0x0C, 0x00,  // mov eax, C4603h: SIPI, page 3
                          0x67, 0x66, 0x26, 0x89, 0x07,        // mov es:[edi], eax
                          0xF4,                                // hlt
                          0xEB, 0xFD,                          // jmp back to it
                      });
  machine.load(0x3000, {
                           0x8C, 0xC8,  // mov ax, cs      (300h)
                           0x88, 0xE0,  // mov al, ah
                           0xE6, 0xF4,  // out F4h, al
                           0xF4,        // hlt
                       });
  for (int round = 0; round < 2; ++round) {
    std::optional<Request> end = machine.run(kCode);
    ASSERT_TRUE(end.has_value());
    EXPECT_EQ(end->kind, Kind::kDebugExit) << end->text;
    EXPECT_EQ(end->value, 3u);
    machine.reset_vcpus();
  }
}

TEST(GuestCode, ReachesMemoryAboveFourGiB) {
  CALF_NEED_KVM();
  constexpr uint64_t kGiB = uint64_t{1} << 30;
  MiniMachine machine(1, 4 * kGiB);  // of which one lies above the hole
  const devices::GuestMemory& memory = machine.ram->guest_memory();
  // 2000h: PML4, 3000h: PDPT, 4000h and 5000h: page directories of the first and the fifth GiB.
  auto entry = [&](uint64_t table, unsigned index, uint64_t value) {
    ASSERT_TRUE(memory.write_object(devices::Gpa{table + 8 * index}, value));
  };
  entry(0x2000, 0, 0x3003);
  entry(0x3000, 0, 0x4003);
  entry(0x3000, 4, 0x5003);
  entry(0x4000, 0, 0x83);
  entry(0x5000, 0, (4 * kGiB) | 0x83);
  // GDT at 6000h: null, 64-bit code, data.
  machine.load(0x6000, {0, 0,    0,    0, 0,    0,    0, 0, 0xFF, 0xFF, 0,    0,
                        0, 0x9B, 0xAF, 0, 0xFF, 0xFF, 0, 0, 0,    0x93, 0xCF, 0});
  machine.load(kCode, {
                          0x48, 0xBB, 0x08, 0,    0,    0,    1, 0, 0, 0,  // mov rbx, 100000008h
                          0xC7, 0x03, 0x5A, 0x11, 0x22, 0x33,  // mov dword [rbx], 3322115Ah
                          0x8B, 0x03,                          // mov eax, [rbx]
                          0xE6, 0xF4,                          // out F4h, al
                          0xF4,                                // hlt
                      });
  firmware::EntryState state;
  state.mode = firmware::CpuMode::kLong64;
  state.rip = kCode;
  state.code_segment = 8;
  state.data_segment = 16;
  state.gdt = devices::Gpa{0x6000};
  state.gdt_limit = 23;
  state.page_tables = devices::Gpa{0x2000};
  std::optional<Request> end = machine.run(state);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->kind, Kind::kDebugExit) << end->text;
  EXPECT_EQ(end->value, 0x5Au);
  EXPECT_EQ(machine.peek<uint32_t>(4 * kGiB + 8), 0x3322115Au);
}

TEST(GuestCode, ProtectedModeEntry) {
  CALF_NEED_KVM();
  MiniMachine machine;
  machine.load(0x6000, {0, 0,    0,    0, 0,    0,    0, 0, 0xFF, 0xFF, 0,    0,
                        0, 0x9B, 0xCF, 0, 0xFF, 0xFF, 0, 0, 0,    0x93, 0xCF, 0});
  machine.load(0x200000, {
                             0x89, 0x1D, 0x00, 0x00, 0x30, 0x00,  // mov [300000h], ebx
                             0x88, 0xD8,                          // mov al, bl
                             0xE6, 0xF4,                          // out F4h, al
                             0xF4,                                // hlt
                         });
  firmware::EntryState state;
  state.mode = firmware::CpuMode::kProtected32;
  state.rip = 0x200000;
  state.rbx = 0x12345677;
  state.code_segment = 8;
  state.data_segment = 16;
  state.gdt = devices::Gpa{0x6000};
  state.gdt_limit = 23;
  std::optional<Request> end = machine.run(state);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->value, 0x77u) << end->text;
  EXPECT_EQ(machine.peek<uint32_t>(0x300000), 0x12345677u);
}

TEST(GuestCode, ASpinningProcessorCanBeParkedAndReleased) {
  CALF_NEED_KVM();
  MiniMachine machine;
  machine.load(kCode, {
                          0x40,                          // inc ax
                          0x80, 0x3E, 0x00, 0x20, 0x00,  // cmp byte [2000h], 0
                          0x74, 0xF8,                    // je back
                          0xE6, 0xF4,                    // out F4h, al
                          0xF4,                          // hlt
                      });
  std::optional<Request> none = machine.run(kCode, std::chrono::seconds(1));
  EXPECT_FALSE(none.has_value());
  Result<kvm_regs> first = machine.vcpus[0].regs();
  Result<kvm_regs> second = machine.vcpus[0].regs();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->rax, second->rax);
  machine.load(0x2000, {1});
  std::optional<Request> end = machine.run(static_cast<uint16_t>(first->rip));
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->kind, Kind::kDebugExit);
}

TEST(GuestCode, AnInstructionThatNobodyKnowsEndsWithAReport) {
  CALF_NEED_KVM();
  MiniMachine machine;
  // Fetching from an address without memory: KVM cannot emulate what it cannot read.
  machine.load(kCode, {
                          0xEA, 0x00, 0x00, 0x00, 0xA0,  // jmp A000:0
                      });
  std::optional<Request> end = machine.run(kCode);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->kind, Kind::kFailure);
  EXPECT_NE(end->text.find("vCPU 0: "), std::string::npos) << end->text;
  EXPECT_NE(end->text.find("rip 0000000000000000"), std::string::npos) << end->text;
}

}  // namespace
}  // namespace calf::vmm
