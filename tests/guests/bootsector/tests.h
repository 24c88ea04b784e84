// The tests by name; README.md of the folder above tells what each prints and takes. One returns
// when it is content.
#pragma once

#include "blk.h"

// The disk that the parameter `disk` names; fails without one.
void test_disk(struct disk* disk, u32 cpus);
// The parameter `id`, or else the disk's serial.
const char* test_id(const struct disk* disk);
// Parameters `start` (default 1 MiB: the guest itself is in front) and `range`, in sectors of the
// disk.
void test_range(const struct disk* disk, u64 default_bytes, u64* first, u64* count);

void test_smoke(const struct bios_report* bios);
void test_memory(void);
void test_reset(void);
void test_panic(void);
void test_idle(void);
void test_echo(void);
void test_rng(void);
void test_size_watch(void);
void test_io(void);
void test_write_own(void);
void test_verify_own(void);
void test_spin_writes(void);
void test_verify_spin(void);
void test_bench(void);
void test_nonsense(void);
