// ACPI (6.5) as far as a guest without an interpreter needs it: RSDP, MADT, MCFG, FADT, and the S5
// package of the DSDT. The MP table is read where there is no MADT. Reads fields at their offsets
// of the specification.
#include "guest.h"

enum { MAX_TABLES = 32 };

static const u8* tables[MAX_TABLES];
static u32 table_count;

static u16 get16(const u8* p) {
  return (u16)(p[0] | p[1] << 8);
}
static u32 get32(const u8* p) {
  return (u32)get16(p) | (u32)get16(p + 2) << 16;
}
static u64 get64(const u8* p) {
  return (u64)get32(p) | (u64)get32(p + 4) << 32;
}

static bool sums_to_zero(const u8* p, u32 n) {
  u8 sum = 0;
  for (u32 i = 0; i < n; i++)
    sum = (u8)(sum + p[i]);
  return sum == 0;
}

static const u8* scan(u64 from, u64 to, const char* signature, u32 checked) {
  for (u64 at = from; at < to; at += 16) {
    const u8* p = (const u8*)at;
    if (memcmp(p, signature, strlen(signature)) == 0 && sums_to_zero(p, checked)) return p;
  }
  return NULL;
}

// The places where firmware leaves pointers: the extended BIOS data area, then the BIOS's own
// memory.
static const u8* scan_bios(const char* signature, u32 checked) {
  u64 ebda = (u64)MMIO16(0x40E) << 4;
  const u8* found = NULL;
  if (ebda >= 0x80000 && ebda < 0xA0000) found = scan(ebda, ebda + 1024, signature, checked);
  return found != NULL ? found : scan(0xE0000, 0x100000, signature, checked);
}

static const u8* table_at(u64 address) {
  const u8* t = memory_map(address, 8);
  memory_map(address, get32(t + 4));
  return t;
}

void acpi_open(u64 rsdp_address) {
  const u8* rsdp = rsdp_address != 0 ? memory_map(rsdp_address, 36) : scan_bios("RSD PTR ", 20);
  if (rsdp == NULL) return;
  if (!sums_to_zero(rsdp, 20)) fail("RSDP has a wrong checksum");
  bool extended = rsdp[15] >= 2 && get64(rsdp + 24) != 0;
  const u8* root = table_at(extended ? get64(rsdp + 24) : get32(rsdp + 16));
  u32 width = extended ? 8 : 4;
  for (u32 at = 36; at + width <= get32(root + 4) && table_count < MAX_TABLES; at += width) {
    const u8* t = table_at(extended ? get64(root + at) : get32(root + at));
    if (!sums_to_zero(t, get32(t + 4)))
      fail("ACPI table %c%c%c%c has a wrong checksum", t[0], t[1], t[2], t[3]);
    tables[table_count++] = t;
  }
}

static const u8* find(const char* signature) {
  for (u32 i = 0; i < table_count; i++) {
    if (memcmp(tables[i], signature, 4) == 0) return tables[i];
  }
  return NULL;
}

// FADT fields exist only as far as its length reaches.
static u64 fadt_field(u32 offset, u32 width) {
  const u8* t = find("FACP");
  if (t == NULL || get32(t + 4) < offset + width) return 0;
  return width == 8   ? get64(t + offset)
         : width == 4 ? get32(t + offset)
         : width == 2 ? get16(t + offset)
                      : t[offset];
}

static u32 cpus_of_madt(u8* ids, u32 max) {
  const u8* t = find("APIC");
  if (t == NULL) return 0;
  u32 n = 0;
  for (u32 at = 44; at + 2 <= get32(t + 4) && t[at + 1] >= 2; at += t[at + 1]) {
    if (t[at] == 0 && (t[at + 4] & 1) != 0 && n < max) ids[n++] = t[at + 3];
  }
  return n;
}

// MultiProcessor Specification 1.4
static u32 cpus_of_mp_table(u8* ids, u32 max) {
  const u8* pointer = scan_bios("_MP_", 16);
  if (pointer == NULL || get32(pointer + 4) == 0) return 0;
  const u8* t = memory_map(get32(pointer + 4), 4096);
  const u8* entry = t + 44;
  u32 n = 0;
  for (u16 i = 0; i < get16(t + 34); i++) {
    if (entry[0] == 0 && (entry[3] & 1) != 0 && n < max) ids[n++] = entry[1];
    entry += entry[0] == 0 ? 20 : 8;
  }
  return n;
}

static const char* cpu_source = "none";
const char* acpi_cpu_source(void) {
  return cpu_source;
}

u32 acpi_cpu_ids(u8* ids, u32 max) {
  u32 n = param_flag("madt", true) ? cpus_of_madt(ids, max) : 0;
  if (n > 0) {
    cpu_source = "MADT";
    return n;
  }
  n = cpus_of_mp_table(ids, max);
  if (n > 0) cpu_source = "MP table";
  return n;
}

u64 acpi_ecam(void) {
  const u8* t = find("MCFG");
  return t != NULL && get32(t + 4) >= 60 ? get64(t + 44) : 0;
}

u16 acpi_pm_timer_port(void) {
  return (u16)fadt_field(76, 4);
}

// Name (_S5_, Package () { a, b, … }): NameOp, name, PackageOp, length (1 to 4 bytes), count,
// elements.
static bool sleep_types(u8* a, u8* b) {
  u64 address = fadt_field(140, 8);
  if (address == 0) address = fadt_field(40, 4);
  if (address == 0) return false;
  const u8* dsdt = table_at(address);
  u32 length = get32(dsdt + 4);
  for (u32 at = 36; at + 10 <= length; at++) {
    const u8* p = dsdt + at;
    if (memcmp(p, "_S5_\x12", 5) != 0) continue;
    p += 5;
    p += 1 + (*p >> 6);  // package length
    p++;                 // count
    u8 value[2];
    for (int i = 0; i < 2; i++) {
      if (*p == 0x0A) p++;  // BytePrefix; 0 and 1 stand for themselves
      value[i] = *p++;
    }
    *a = value[0];
    *b = value[1];
    return true;
  }
  return false;
}

void debug_exit(u32 value) {
  out32(DEBUG_EXIT_PORT, value);
  // No such device, or a host that ignores it.
  for (;;)
    trap(TRAP_PARK);
}

void power_off(void) {
  u8 a = 0, b = 0;
  if (!sleep_types(&a, &b)) fail("no _S5_ package in the DSDT: cannot power off");
  bool reduced = (fadt_field(112, 4) >> 20 & 1) != 0;
  if (reduced) {
    u64 address = fadt_field(248, 8);
    u8 value = (u8)(a << 2 | 1 << 5);
    if (fadt_field(244, 1) == 1) {
      out8((u16)address, value);
    } else {
      MMIO8(memory_map(address, 1)) = value;
    }
  } else {
    u16 control_a = (u16)fadt_field(64, 4), control_b = (u16)fadt_field(68, 4);
    u16 smi = (u16)fadt_field(48, 4);
    if ((in16(control_a) & 1) == 0 && smi != 0) {
      out8(smi, (u8)fadt_field(52, 1));
      for (int i = 0; i < 100000 && (in16(control_a) & 1) == 0; i++)
        pause();
    }
    out16(control_a, (u16)(a << 10 | 1 << 13));
    if (control_b != 0) out16(control_b, (u16)(b << 10 | 1 << 13));
  }
  // The host may need a moment.
  for (u64 start = rdtsc(); rdtsc() - start < 4000000000;)
    pause();
  fail("still here after power off");
}
