// Where CPL 3 begins: sets up the little that tests need, runs the one that the command line names,
// and powers off.
#include "tests.h"

static struct bios_report bios;

static void run(const char* name) {
  static const struct {
    const char* name;
    void (*run)(void);
  } tests[] = {
      {"memory", test_memory},
      {"reset", test_reset},
      {"panic", test_panic},
      {"idle", test_idle},
      {"echo", test_echo},
      {"rng", test_rng},
      {"size-watch", test_size_watch},
      {"io", test_io},
      {"write-own", test_write_own},
      {"verify-own", test_verify_own},
      {"spin-writes", test_spin_writes},
      {"verify-spin", test_verify_spin},
      {"bench", test_bench},
      {"nonsense", test_nonsense},
  };
  if (equal(name, "smoke")) return test_smoke(bios.magic != 0 ? &bios : NULL);
  for (u32 i = 0; i < sizeof tests / sizeof tests[0]; i++) {
    if (equal(name, tests[i].name)) return tests[i].run();
  }
  fail("no test is called %s", name);
}

void guest_main(const struct start_info* info) {
  extern char bss_start[], bss_end[];
  memset(bss_start, 0, (size_t)(bss_end - bss_start));
  asm volatile("fninit");
  interrupts_open();
  console_open();
  if (info->magic != PVH_MAGIC) fail("not entered by PVH or by our own loader");
  params_parse(info->command_line != 0 ? (const char*)info->command_line : "");
  for (u32 i = 0; i < info->module_count; i++) {
    const struct module* module = (const struct module*)info->modules + i;
    const struct bios_report* report = (const struct bios_report*)module->address;
    if (module->size == sizeof bios && report->magic == BIOS_REPORT_MAGIC) bios = *report;
  }
  u64 rsdp = info->rsdp;
  memory_open(info);
  acpi_open(rsdp);
  pci_open();

  const char* name = param_text("test", "smoke");
  const char* end = param_text("end", "poweroff");
  say("start %s", name);
  run(name);
  params_check_used();
  say("done");
  if (equal(end, "debug-exit")) debug_exit(EXIT_SUCCESS_CODE);
  power_off();
}
