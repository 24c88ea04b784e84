// The ways into a Linux kernel, each after its file has been read: unpacked, packed, real mode.
// Documentation/arch/x86/boot.rst.
#pragma once

#include "block/base/result.h"
#include "firmware/boot/boot_memory.h"
#include "firmware/boot/bzimage.h"
#include "firmware/boot/elf.h"
#include "firmware/boot/kernel.h"

namespace calf::firmware {

// Loads the segments where they are linked.
Result<void> load_segments(const ElfImage& elf, BootMemory& memory);

// Puts the initrd, if there is one, as high as possible below `limit`. Empty range: none.
Result<ByteRange> load_initrd(const KernelSource& source, uint64_t limit, BootMemory& memory);

// Puts the command line to kCommandLine. kInvalid if it has more than `limit` characters.
Result<void> load_command_line(const KernelSource& source, uint64_t limit, BootMemory& memory);

// An uncompressed kernel, at its 64-bit or (ELF-32) 32-bit entry, with a zero page made from
// `header`, the bzImage's or make_setup_header().
Result<EntryState> load_linux_elf(const KernelSource& source, const SetupHeader& header,
                                  const ElfImage& elf, BootMemory& memory);

// The protected-mode part at 1 MiB, which unpacks the kernel itself; `mode` says which of its
// entries.
Result<EntryState> load_linux_packed(const KernelSource& source, const BzImage& image, CpuMode mode,
                                     BootMemory& memory);

// All of the image, entered in its setup code.
Result<EntryState> load_linux_real_mode(const KernelSource& source, const BzImage& image,
                                        BootMemory& memory);

}  // namespace calf::firmware
