// Length of a TSC tick, measured against the ACPI PM timer or, without one, channel 2 of the PIT.
#include "guest.h"

enum { PM_HZ = 3579545, PIT_HZ = 1193182 };

static u64 ticks_per_second;

static u64 by_pm_timer(u16 port) {
  const u32 span = PM_HZ / 50;
  u32 start = in32(port) & 0xFFFFFF, now = start;
  u64 from = rdtsc();
  while (((now - start) & 0xFFFFFF) < span)
    now = in32(port) & 0xFFFFFF;
  u64 ticks = rdtsc() - from;
  return ticks * PM_HZ / ((now - start) & 0xFFFFFF);
}

static u64 by_pit(void) {
  const u32 span = PIT_HZ / 50;
  out8(0x61, (u8)((in8(0x61) & 0xFC) | 1));  // gate on, speaker off
  out8(0x43, 0xB0);                          // channel 2, both bytes, mode 0
  out8(0x42, (u8)span);
  out8(0x42, (u8)(span >> 8));
  u64 from = rdtsc();
  for (u64 i = 0; (in8(0x61) & 0x20) == 0; i++) {
    if (i == 100000000) fail("neither PM timer nor PIT: no clock");
  }
  return (rdtsc() - from) * 50;
}

u64 clock_microseconds(u64 ticks) {
  if (ticks_per_second == 0) {
    u16 port = acpi_pm_timer_port();
    ticks_per_second = port != 0 ? by_pm_timer(port) : by_pit();
    if (ticks_per_second < 1000000) fail("the clock stands still");
  }
  return ticks * 1000 / (ticks_per_second / 1000);
}
