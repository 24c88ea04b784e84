// Direct boot: puts a kernel file, its initial RAM disk and its command line into guest memory and
// says how to enter it.
//
//   file             what is read of it                       entered at
//   bzImage          the ELF inside, unpacked by calf          its 64-bit (or 32-bit) entry
//                    protected-mode part, unpacks itself       + 0x200 in 64-bit, + 0 in 32-bit
//                    mode all of it, needs BIOS services            real-mode setup code
//   ELF, PVH note    its segments                              the note's 32-bit entry
//   ELF, no note     its segments (Linux's vmlinux)            e_entry, with a zero page
//
// A bzImage that calf can unpack starts as fast as an uncompressed kernel. Everything in these
// files is untrusted: a number that does not fit is an error, not an overrun.
//
// Linux: Documentation/arch/x86/boot.rst (protocol 2.06 and later). PVH: Xen's
// docs/misc/pvh.pandoc. Not supported: zImage (loaded low), EFI handover, initrd above 4 GiB, KASLR
// of an unpacked kernel.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "block/base/result.h"
#include "devices/core/guest_memory.h"
#include "firmware/boot/decompress.h"
#include "firmware/boot/entry_state.h"
#include "firmware/memory_map.h"

namespace calf::firmware {

enum class KernelEntry : uint8_t {
  kAuto,  // unpacked or PVH if possible, else the guest's own code
  // bzImage; an ELF file is then treated as with kAuto:
  kUnpacked,    // calf unpacks; an error if it cannot
  kSelfUnpack,  // the guest unpacks: kPacked64 if the kernel has that entry, else kRealMode
  kPacked64,    // 64-bit entry of the packed kernel
  kPacked32,    // 32-bit entry of the packed kernel
  kRealMode,    // setup code, with BIOS services
  // ELF:
  kPvh,
  kLinux,  // the Linux entry even if there is a PVH note
};

// What comes out of the payload of a bzImage that is to be unpacked here; nothing where there is
// nothing to unpack. The part of load_kernel() that takes longest and needs no guest memory. At
// most `limit` bytes; errors as unpack()'s and of a damaged file.
Result<UnpackedBytes> unpack_kernel(std::span<const uint8_t> kernel, KernelEntry entry,
                                    uint64_t limit);

// Bytes stay the caller's, and are not needed any more when load_kernel() has returned.
struct KernelSource {
  std::span<const uint8_t> kernel;
  std::span<const uint8_t> unpacked;  // of unpack_kernel() with this `entry`; empty: not done yet
  std::span<const uint8_t> initrd;    // empty: none
  std::string_view command_line;
  KernelEntry entry = KernelEntry::kAuto;
  std::optional<devices::Gpa> rsdp;  // told to the kernel, so that it need not search
};

struct LoadedKernel {
  EntryState state;
  bool needs_bios = false;  // BIOS services and their data areas must be there
  std::string description;  // for -v: "bzImage 6.1.0, zstd, unpacked, entered at 0x1000000"
};

// Called before the first entry and again at each reset. Uses low memory from 0x6000 to 0x30000 for
// its own structures, and above 1 MiB what the kernel asks for. Errors: kInvalid (a file is not
// what it should be, the command line is too long), kUnsupported, kResource (does not fit into
// RAM), kCorrupt (a payload does not unpack).
Result<LoadedKernel> load_kernel(const KernelSource& source, const MemoryMap& map,
                                 const devices::GuestMemory& memory);

}  // namespace calf::firmware
