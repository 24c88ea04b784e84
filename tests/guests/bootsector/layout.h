// Where the parts of the guest stand, on disk and in memory. Used by assembler, C and the image
// builder.
//
//   sector 0      boot.S: the boot sector
//   sector 1      configuration: the command line as text, ends with a zero byte
//   sector 2–8    loader.S: real mode, then copies the body to 1 MiB
//   sector 9 …    the body: start.S and the C files, linked at 1 MiB
//
// The same body, as an ELF file with a PVH note, is what `-kernel` starts.
#pragma once

#define CONFIG_SECTOR 1
#define LOADER_SECTOR 2
#define LOADER_SECTORS 7
#define BODY_SECTOR 9

#define CONFIG_ADDRESS 0x7E00  // sector 1 to 8 are read in one go behind the boot sector
#define LOADER_ADDRESS 0x8000
#define START_INFO_ADDRESS 0x9000   // hvm_start_info, made by the loader
#define BIOS_REPORT_ADDRESS 0x9100  // struct bios_report (guest.h)
#define MEMMAP_ADDRESS 0x9200       // E820 entries of 24 bytes
#define MEMMAP_MAX 64
#define SCRATCH_ADDRESS 0xA000     // two sectors, to compare
#define BODY_LOAD_ADDRESS 0x10000  // as read by INT 13h
#define BODY_LOAD_LIMIT 0x80000
#define TRAMPOLINE_ADDRESS 0x6000  // first code of the other CPUs
#define BODY_ADDRESS 0x100000

#define PVH_MAGIC 0x336EC578
#define BIOS_REPORT_MAGIC 0x534F4942  // "BIOS"

#define DEBUG_EXIT_PORT 0xF4
#define EXIT_SUCCESS_CODE 0x10  // the process ends with 33
#define EXIT_FAILURE_CODE 0x11  // 35

// The command lines `exit …` and `test=exit …`, as the first instructions look for them.
#define TEXT_EXIT 0x74697865       // "exit" at 0
#define TEXT_TEST_EXIT 0x6978653D  // "=exi" at 4

// Segment selectors.
#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define KERNEL_CODE32 0x18
#define USER_DATA 0x23
#define USER_CODE 0x2B
#define TSS_SELECTOR 0x30  // CPU n: 16 n further
#define MAX_CPUS 64
#define TSS_PORTS 104                    // port bitmap: all allowed
#define TSS_SIZE (TSS_PORTS + 8192 + 1)  // one byte of ones ends it

#define VECTOR_SIZE 32  // bytes of code of each interrupt vector

// What CPL 3 asks of CPL 0: `hlt` with a number in RDI (start.S).
#define TRAP_PARK 0
#define TRAP_WAIT 1
#define TRAP_TRIPLE_FAULT 2
#define TRAP_WRMSR 3
#define TRAP_RDMSR 4
