// One request after the other: a guest that asks by a number in memory and halts until an interrupt
// says that it is answered. What KVM needs for that, and a read; no virtqueue, no exit to ask.
//
// The guest asks at CPL 3, as the bench's guest does, and leaves it only to halt.
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <thread>

#include "tests/bench/limits/kvm_machine.h"
#include "tests/bench/limits/limits.h"
#include "tests/bench/limits/raw_file.h"
#include "vmm/kvm/abi.h"

// Where things are in the guest's memory; the code below has some of these numbers, too.
//     1000h page tables   8000h GDT   9000h IDT   A000h TSS   C000h, E000h ends of stacks
//     10000h code   20000h asked   20040h answered   100000h what is read
asm(R"(
        .pushsection .rodata
        .globl calf_answers_guest, calf_answers_wait, calf_answers_interrupt, calf_answers_end
calf_answers_guest:
        movl    $0xFEE000F0, %eax
        movl    $0x1FF, (%rax)          # the local APIC is on
        movl    $0x20000, %ebx
        pushq   $0x1B                   # SS
        pushq   $0xE000
        pushq   $0x3002                 # IOPL 3, interrupts off
        pushq   $0x23                   # CS
        leaq    1f(%rip), %rax
        pushq   %rax
        iretq
1:      incq    (%rbx)
2:      movq    64(%rbx), %rax
        cmpq    (%rbx), %rax
        je      3f
        hlt                             # not allowed here: #GP
        jmp     2b
3:      decq    %rcx
        jnz     1b
        outb    %al, $0xF4
4:      jmp     4b
calf_answers_wait:
        addq    $8, %rsp                # error code
        incq    (%rsp)                  # behind the hlt
        sti
        hlt
        iretq
calf_answers_interrupt:
        pushq   %rax
        movl    $0xFEE000B0, %eax
        movl    $0, (%rax)              # end of interrupt
        popq    %rax
        iretq
calf_answers_end:
        .popsection
)");
extern "C" const uint8_t calf_answers_guest[], calf_answers_wait[], calf_answers_interrupt[],
    calf_answers_end[];

namespace calf::bench {
namespace {

constexpr uint64_t kTables = 0x1000, kGdt = 0x8000, kIdt = 0x9000, kTss = 0xA000, kStack = 0xC000;
constexpr uint64_t kCode = 0x10000, kAsked = 0x20000, kAnswered = 0x20040, kData = 0x100000;
constexpr size_t kMemory = size_t{4} << 20;
constexpr size_t kBlock = 4096;
constexpr uint16_t kKernelCode = 0x08, kTssSelector = 0x28;
constexpr unsigned kGeneralProtection = 13, kVector = 0x40;
constexpr uint32_t kGsi = 24;

void put(KvmMachine& machine, uint64_t at, uint64_t value) {
  std::memcpy(machine.memory() + at, &value, sizeof value);
}

// 4 GiB, one to one, in pages of 2 MiB, for CPL 3, too; the last GiB (the local APIC) uncached.
void make_page_tables(KvmMachine& machine) {
  constexpr uint64_t kPresent = 7, kLarge = 0x80, kUncached = 0x18;
  put(machine, kTables, (kTables + 0x1000) | kPresent);
  for (uint64_t gib = 0; gib < 4; ++gib) {
    const uint64_t directory = kTables + 0x2000 + gib * 0x1000;
    put(machine, kTables + 0x1000 + gib * 8, directory | kPresent);
    for (uint64_t i = 0; i < 512; ++i) {
      const uint64_t page = gib << 30 | i << 21;
      put(machine, directory + i * 8, page | kPresent | kLarge | (gib == 3 ? kUncached : 0));
    }
  }
}

void make_gate(KvmMachine& machine, unsigned vector, const uint8_t* code) {
  const uint64_t at = kCode + static_cast<uint64_t>(code - calf_answers_guest);
  constexpr uint64_t kInterruptGate = 0x8E;
  put(machine, kIdt + vector * 16,
      (at & 0xFFFF) | uint64_t{kKernelCode} << 16 | kInterruptGate << 40 |
          (at >> 16 & 0xFFFF) << 48);
  put(machine, kIdt + vector * 16 + 8, at >> 32);
}

void make_descriptors(KvmMachine& machine) {
  constexpr std::array<uint64_t, 5> kSegments = {
      0,
      0x00AF9B000000FFFF,  // 08h: code, CPL 0
      0x00CF93000000FFFF,  // 10h: data, CPL 0
      0x00CFF3000000FFFF,  // 18h: data, CPL 3
      0x00AFFB000000FFFF,  // 20h: code, CPL 3
  };
  for (size_t i = 0; i < kSegments.size(); ++i)
    put(machine, kGdt + i * 8, kSegments[i]);
  put(machine, kGdt + kTssSelector, 0x0000890000000067 | kTss << 16);
  put(machine, kTss + 4, kStack);  // RSP0
  make_gate(machine, kGeneralProtection, calf_answers_wait);
  make_gate(machine, kVector, calf_answers_interrupt);
}

int enter_long_mode(KvmMachine& machine, uint64_t count) {
  kvm_sregs sregs{};
  if (const int error = machine.vcpu_call(KVM_GET_SREGS, &sregs); error != 0) return error;
  sregs.cr0 = 0x80000033;
  sregs.cr3 = kTables;
  sregs.cr4 = 0x620;
  sregs.efer = 0x500;
  sregs.cs = {};
  sregs.cs.selector = kKernelCode;
  sregs.cs.limit = 0xFFFFFFFF;
  sregs.cs.type = 0xB;
  sregs.cs.present = sregs.cs.s = sregs.cs.l = sregs.cs.g = 1;
  sregs.ss = sregs.cs;
  sregs.ss.selector = 0x10;
  sregs.ss.type = 3;
  sregs.ss.l = 0;
  sregs.ss.db = 1;
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss;
  sregs.tr = {};
  sregs.tr.base = kTss;
  sregs.tr.limit = 0x67;
  sregs.tr.selector = kTssSelector;
  sregs.tr.type = 0xB;
  sregs.tr.present = 1;
  sregs.gdt = {kGdt, 0x37, {}};
  sregs.idt = {kIdt, 0xFFF, {}};
  if (const int error = machine.vcpu_call(KVM_SET_SREGS, &sregs); error != 0) return error;
  kvm_regs regs{};
  regs.rip = kCode;
  regs.rsp = kStack;
  regs.rflags = 2;
  regs.rcx = count;
  return machine.vcpu_call(KVM_SET_REGS, &regs);
}

// A signal to `event` becomes the interrupt.
int route_interrupt(KvmMachine& machine, int event) {
  kvm_irq_routing_entry entry{};
  entry.gsi = kGsi;
  entry.type = KVM_IRQ_ROUTING_MSI;
  entry.u.msi.address_lo = 0xFEE00000;
  entry.u.msi.data = kVector;
  const kvm::IrqRoutingHeader head{1, 0};
  std::array<uint8_t, sizeof head + sizeof entry> routing;
  std::memcpy(routing.data(), &head, sizeof head);
  std::memcpy(routing.data() + sizeof head, &entry, sizeof entry);
  if (const int error = machine.vm_call(kvm::kSetGsiRouting, routing.data()); error != 0)
    return error;
  kvm_irqfd irqfd{};
  irqfd.fd = static_cast<uint32_t>(event);
  irqfd.gsi = kGsi;
  return machine.vm_call(KVM_IRQFD, &irqfd);
}

int answer_all(KvmMachine& machine, const RawFile& file, int event,
               const std::atomic<bool>& ended) {
  auto* asked = reinterpret_cast<std::atomic<uint64_t>*>(machine.memory() + kAsked);
  auto* answered = reinterpret_cast<std::atomic<uint64_t>*>(machine.memory() + kAnswered);
  std::mt19937_64 random(1);
  const uint64_t blocks = file.size() / kBlock;
  for (uint64_t done = 0; !ended;) {
    if (asked->load(std::memory_order_acquire) == done) continue;
    auto* to = reinterpret_cast<char*>(machine.memory() + kData);
    if (const int error = file.read(to, kBlock, random() % blocks * kBlock); error != 0)
      return error;
    answered->store(++done, std::memory_order_release);
    if (::eventfd_write(event, 1) != 0) return errno;
  }
  return 0;
}

}  // namespace

double run_kvm_answers_limit(const char* name, uint64_t count, bool direct) {
  const RawFile file(name, O_RDONLY | (direct ? O_DIRECT : 0));
  const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (file.fd < 0 || event < 0) return -errno;
  if (count == 0 || file.size() < kBlock) return -EINVAL;
  auto owned = std::make_unique<KvmMachine>();
  KvmMachine& machine = *owned;
  if (const int error = machine.create(kMemory); error != 0) return -error;
  make_page_tables(machine);
  make_descriptors(machine);
  std::memcpy(machine.memory() + kCode, calf_answers_guest,
              static_cast<size_t>(calf_answers_end - calf_answers_guest));
  if (const int error = route_interrupt(machine, event); error != 0) return -error;
  if (const int error = enter_long_mode(machine, count); error != 0) return -error;

  std::atomic<bool> ended{false};
  int run_error = 0;
  const auto begin = std::chrono::steady_clock::now();
  std::thread vcpu([&] {
    run_error = machine.run_to_exit();
    ended = true;
  });
  const int error = answer_all(machine, file, event, ended);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  // The guest waits for an answer that does not come: the end of the process ends it, and has its
  // machine until then.
  if (error != 0) {
    vcpu.detach();
    static_cast<void>(owned.release());
    return -error;
  }
  vcpu.join();
  return run_error != 0 ? -run_error : took.count();
}

}  // namespace calf::bench
