// The other CPUs, the local APIC, interrupts, locks.
//
// CPUs are started one by one by INIT and SIPI to their APIC IDs (MADT or MP table), or all at once
// where there is no table. Each comes up at CPL 3 in cpu_main, waits for work, and is parked
// (halted at CPL 0) when there is none left.
#include "guest.h"

enum {
  APIC = 0xFEE00000,
  APIC_ID = 0x20,
  APIC_SPURIOUS = 0xF0,
  APIC_ICR_LOW = 0x300,
  APIC_ICR_HIGH = 0x310
};
enum { TRAP_STACK = 4096, USER_STACK = 32768 };

extern u64 gdt[];
extern u64 cpu_trap_stacks[MAX_CPUS], cpu_user_stacks[MAX_CPUS];
extern u32 next_cpu;
extern char trampoline[], trampoline_end[], vectors[];
extern u64 idt[256][2];

static u32 running = 1;  // CPUs that reached cpu_main, and this one
static u32 finished;
static void (*current_work)(u32, void*);
static void* current_context;
static u32 current_count;
static u32 generation, first_apic_id;
static u32 apic_ids[MAX_CPUS];

void lock_take(struct lock* lock) {
  while (__atomic_exchange_n(&lock->taken, 1, __ATOMIC_ACQUIRE) != 0)
    pause();
}
void lock_drop(struct lock* lock) {
  __atomic_store_n(&lock->taken, 0, __ATOMIC_RELEASE);
}

u32 cpu_apic_id(void) {
  return MMIO32(APIC + APIC_ID) >> 24;
}

u32 cpu_apic_id_of(u32 cpu) {
  return cpu > 0 && cpu < running ? apic_ids[cpu] : cpu_apic_id();
}

void interrupts_open(void) {
  out8(0x21, 0xFF);  // the PICs stay silent: their vectors may be those of exceptions
  out8(0xA1, 0xFF);
  for (u64 i = 0; i < 256; i++) {
    u64 at = (u64)vectors + VECTOR_SIZE * i;
    idt[i][0] = (at & 0xFFFF) | KERNEL_CODE << 16 | 0x8Eull << 40 | (at >> 16 & 0xFFFF) << 48;
    idt[i][1] = at >> 32;
  }
}

// Called by vector_common for what CPL 3 or CPL 0 did wrong.
void guest_exception(u64 vector, u64 error, u64 rip, u64 cr2, u64 rsp) {
  // A second one comes from our own telling of the first.
  static u32 seen;
  if (__atomic_exchange_n(&seen, 1, __ATOMIC_SEQ_CST) != 0) trap(TRAP_PARK);
  console_break_lock();
  fail("exception %u error %x rip %x cr2 %x rsp %x", vector, error, rip, cr2, rsp);
}

static const u32 kWakeUp = 0x4030, kEverybodyElse = 3 << 18;  // vector 0x30

static void send(u32 apic_id, u32 command) {
  MMIO32(APIC + APIC_ICR_HIGH) = apic_id << 24;
  MMIO32(APIC + APIC_ICR_LOW) = command;
  while ((MMIO32(APIC + APIC_ICR_LOW) & 1 << 12) != 0)
    pause();
}

void cpu_main(u32 cpu) {
  asm volatile("fninit");
  MMIO32(APIC + APIC_SPURIOUS) = 0x1FF;
  apic_ids[cpu] = cpu_apic_id();
  __atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST);
  for (u32 seen = 0;;) {
    while (__atomic_load_n(&generation, __ATOMIC_ACQUIRE) == seen)
      pause();
    seen = __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
    if (cpu >= current_count) trap(TRAP_PARK);
    current_work(cpu, current_context);
    __atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
    send(first_apic_id, kWakeUp);
  }
}

static void prepare(u32 cpu) {
  u8* stack = memory_allocate(TRAP_STACK + USER_STACK, 4096);
  u64 tss = (u64)memory_allocate(TSS_SIZE, 128);
  u64 trap_end = (u64)stack + TRAP_STACK;
  memcpy((void*)(tss + 4), &trap_end, 8);
  cpu_trap_stacks[cpu] = trap_end;
  cpu_user_stacks[cpu] = (u64)stack + TRAP_STACK + USER_STACK - 8;
  u64* entry = &gdt[TSS_SELECTOR / 8 + 2 * cpu];
  entry[0] = (TSS_SIZE - 1) | (tss & 0xFFFFFF) << 16 | 0x89ull << 40 | (tss >> 24 & 0xFF) << 56;
  entry[1] = tss >> 32;
}

static bool wait_for(u32 count, u64 ticks) {
  for (u64 start = rdtsc(); rdtsc() - start < ticks;) {
    if (__atomic_load_n(&running, __ATOMIC_ACQUIRE) >= count) return true;
    pause();
  }
  return false;
}

u32 cpus_start(u32 wanted) {
  // Ticks of a clock of unknown speed; at 1 to 4 GHz these are 10 ms, and half a minute for a CPU
  // that is emulated and starved.
  const u64 init_delay = 20000000, patience = 60000000000;
  u8 ids[256];
  u32 listed = acpi_cpu_ids(ids, sizeof ids);
  u32 count = (u32)min(min(wanted, MAX_CPUS), listed == 0 ? MAX_CPUS : listed);
  for (u32 cpu = 1; cpu < count; cpu++)
    prepare(cpu);
  memcpy((void*)TRAMPOLINE_ADDRESS, trampoline, (u64)(trampoline_end - trampoline));
  MMIO32(APIC + APIC_SPURIOUS) = 0x1FF;

  const u32 init = 0x4500, sipi = 0x4600 | TRAMPOLINE_ADDRESS >> 12;
  if (listed == 0) {
    if (wanted <= 1) return 1;
    send(0, init | kEverybodyElse);
    wait_for(MAX_CPUS, init_delay);
    send(0, sipi | kEverybodyElse);
    wait_for(MAX_CPUS, 20 * init_delay);
    return running;
  }
  u32 self = cpu_apic_id();
  for (u32 i = 0; i < listed && running < count; i++) {
    if (ids[i] == self) continue;
    u32 before = running;
    send(ids[i], init);
    wait_for(before + 1, init_delay);
    send(ids[i], sipi);
    if (!wait_for(before + 1, init_delay)) send(ids[i], sipi);
    if (!wait_for(before + 1, patience)) fail("CPU with APIC ID %u does not start", (u64)ids[i]);
  }
  return running;
}

void cpus_run(u32 count, void (*work)(u32, void*), void* context) {
  current_work = work;
  current_context = context;
  current_count = count;
  finished = 0;
  __atomic_add_fetch(&generation, 1, __ATOMIC_SEQ_CST);
  work(0, context);
  while (__atomic_load_n(&finished, __ATOMIC_ACQUIRE) < count - 1)
    pause();
}
