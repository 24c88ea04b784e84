// What every file of the guest shares: numbers, memory and string helpers, ports, console,
// parameters, fatal errors. There is no library below us; everything here runs at CPL 3 with all of
// memory and all ports (start.S says why).
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define KIB 1024ull
#define MIB (1024 * KIB)
#define SECTOR 512

// PVH start info, version 1 (Xen's public/arch-x86/hvm/start_info.h). loader.S makes one too.
struct start_info {
  u32 magic, version, flags, module_count;
  u64 modules, command_line, rsdp, memmap;
  u32 memmap_entries, reserved;
};
struct module {
  u64 address, size, command_line, reserved;
};
struct memmap_entry {
  u64 base, size;
  u32 type, reserved;
};
enum { MEMORY_RAM = 1 };

// What loader.S learned from the BIOS, handed over as a module.
struct bios_report {
  u32 magic, drive, extensions, base_kib, cylinders, heads, sectors, reads_agree;
  u64 capacity;
};

// lib.c
void* memset(void* to, int value, size_t n);
void* memcpy(void* to, const void* from, size_t n);
int memcmp(const void* a, const void* b, size_t n);
size_t strlen(const char* s);
bool equal(const char* a, const char* b);
bool starts_with(const char* s, const char* prefix);
u64 mix(u64 x);               // a good hash of one number
u64 random_next(u64* state);  // pseudo-random sequence
u64 random_below(u64* state, u64 limit);

static inline u64 min(u64 a, u64 b) {
  return a < b ? a : b;
}
static inline u64 round_up(u64 value, u64 to) {
  return (value + to - 1) / to * to;
}

// ports and instructions
static inline void out8(u16 port, u8 value) {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
static inline void out16(u16 port, u16 value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
static inline void out32(u16 port, u32 value) {
  asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
static inline u8 in8(u16 port) {
  u8 value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline u16 in16(u16 port) {
  u16 value;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline u32 in32(u16 port) {
  u32 value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline u64 rdtsc(void) {
  u32 low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return (u64)high << 32 | low;
}
static inline void pause(void) {
  asm volatile("pause" : : : "memory");
}
// CPL 0 does it (start.S, trap).
static inline void trap(u64 number) {
  asm volatile("hlt" : : "D"(number) : "r11", "memory");
}

#define MMIO8(address) (*(volatile u8*)(address))
#define MMIO16(address) (*(volatile u16*)(address))
#define MMIO32(address) (*(volatile u32*)(address))
#define MMIO64(address) (*(volatile u64*)(address))

// console.c: lines on COM1. Conversions: %s, %u (u64), %x (u64), %d (int), %c.
void console_open(void);
void console_break_lock(void);  // for whom the holder may have been interrupted
void say(const char* format, ...);
// Prints "error: …" and ends the VM with failure.
_Noreturn void fail(const char* format, ...);

// params.c: words `key=value` of the command line; the first word may be the test's name alone.
void params_parse(const char* command_line);
const char* param_text(const char* key, const char* fallback);
u64 param_number(const char* key, u64 fallback);  // K, M, G suffixes
bool param_flag(const char* key, bool fallback);
void params_check_used(void);  // fails on a word that nothing asked for

// memory.c
void memory_open(const struct start_info* info);
void* memory_allocate(u64 size, u64 alignment);  // zeroed; never freed
void* memory_map(u64 address, u64 size);  // makes sure that CPL 3 can reach it; address == result
u64 memory_ram_size(void);
const struct memmap_entry* memory_map_entries(u32* count);

// acpi.c
void acpi_open(u64 rsdp);
u32 acpi_cpu_ids(u8* ids, u32 max);  // from the MADT, or else the MP table; 0 when there is neither
u64 acpi_ecam(void);                 // base of the MCFG's first entry, or 0
u16 acpi_pm_timer_port(void);
const char* acpi_cpu_source(void);
_Noreturn void power_off(void);
_Noreturn void debug_exit(u32 value);

// cpu.c
u32 cpus_start(u32 wanted);  // starts the other CPUs, up to this many in all; the number that runs
void cpus_run(u32 count, void (*work)(u32 cpu, void* context),
              void* context);  // on CPUs 0 to count-1; returns when all are done
u32 cpu_apic_id(void);
u32 cpu_apic_id_of(u32 cpu);  // this CPU's for one that does not run
void interrupts_open(void);
extern volatile u32 interrupt_counts[256];

struct lock {
  u32 taken;
};
void lock_take(struct lock* lock);
void lock_drop(struct lock* lock);

// clock.c
u64 clock_microseconds(u64 tsc_ticks);  // calibrates on first use

// pattern.c: a sector of a known content. Text first, so that a person or a script finds it on the
// disk.
u64 id_hash(const char* id);
void sector_fill(u8* to, const char* id, u64 sector, u64 round);
// True when it is what sector_fill wrote, of whatever round; tells the round.
bool sector_is_ours(const u8* data, const char* id, u64 sector, u64* round);
bool sector_is_zero(const u8* data);
