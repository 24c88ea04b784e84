#include "firmware/boot/kernel.h"

#include <algorithm>

#include "block/base/log.h"
#include "firmware/boot/boot_memory.h"
#include "firmware/boot/bzimage.h"
#include "firmware/boot/cpu_tables.h"
#include "firmware/boot/decompress.h"
#include "firmware/boot/elf.h"
#include "firmware/boot/linux.h"
#include "firmware/boot/pvh.h"
#include "firmware/boot/zero_page.h"

namespace calf::firmware {
namespace {

// What kAuto and kSelfUnpack mean for this image.
KernelEntry choose_entry(KernelEntry wanted, const BzImage& image) {
  PayloadFormat format = image.payload ? payload_format(*image.payload) : PayloadFormat::kUnknown;
  if (wanted == KernelEntry::kAuto && (can_unpack(format) || format == PayloadFormat::kElf)) {
    return KernelEntry::kUnpacked;
  }
  if (wanted != KernelEntry::kAuto && wanted != KernelEntry::kSelfUnpack) return wanted;
  bool has_entry = image.payload && (image.header.xloadflags & kHas64BitEntry) != 0;
  return has_entry ? KernelEntry::kPacked64 : KernelEntry::kRealMode;
}

Result<UnpackedBytes> unpack_payload(std::span<const uint8_t> payload, uint64_t limit) {
  constexpr uint64_t kMostUnpacked = kOneGiB;
  return unpack(payload, std::min(limit, kMostUnpacked));
}

Result<EntryState> load_unpacked(const KernelSource& source, const BzImage& image,
                                 BootMemory& memory) {
  if (!image.payload) {
    return make_error(ErrorKind::kUnsupported, "the kernel image has no payload to unpack");
  }
  std::span<const uint8_t> contents = *image.payload;
  UnpackedBytes unpacked;
  if (payload_format(contents) != PayloadFormat::kElf) {
    contents = source.unpacked;
    if (contents.empty()) {
      TRY(unpacked, unpack_payload(*image.payload, memory.map().ram_below_4g()));
      contents = unpacked.span();
    }
  }
  TRY(ElfImage elf, parse_elf(contents));
  return load_linux_elf(source, image.header, elf, memory);
}

Result<LoadedKernel> load_bzimage(const KernelSource& source, BootMemory& memory) {
  TRY(BzImage image, parse_bzimage(source.kernel));
  std::string name = fmt::format("bzImage {}", image.kernel_version);
  LoadedKernel loaded;
  switch (choose_entry(source.entry, image)) {
    case KernelEntry::kUnpacked: {
      TRY(loaded.state, load_unpacked(source, image, memory));
      const char* format = to_string(payload_format(*image.payload));
      loaded.description = fmt::format("{}, {}, unpacked by calf", name, format);
      return loaded;
    }
    case KernelEntry::kPacked64: {
      TRY(loaded.state, load_linux_packed(source, image, CpuMode::kLong64, memory));
      loaded.description = fmt::format("{}, unpacks itself, 64-bit entry", name);
      return loaded;
    }
    case KernelEntry::kPacked32: {
      TRY(loaded.state, load_linux_packed(source, image, CpuMode::kProtected32, memory));
      loaded.description = fmt::format("{}, unpacks itself, 32-bit entry", name);
      return loaded;
    }
    case KernelEntry::kRealMode: {
      TRY(loaded.state, load_linux_real_mode(source, image, memory));
      loaded.description = fmt::format("{}, real mode", name);
      loaded.needs_bios = true;
      return loaded;
    }
    default:
      return make_error(ErrorKind::kInvalid, "a bzImage cannot be entered as an ELF file");
  }
}

Result<EntryState> load_pvh(const KernelSource& source, const ElfImage& elf, BootMemory& memory) {
  TRY(EntryState state, prepare_protected32(memory));
  TRY_VOID(load_command_line(source, kCommandLine.length - 1, memory));
  TRY_VOID(load_segments(elf, memory));
  PvhInfo info;
  TRY(info.initrd, load_initrd(source, kFourGiB, memory));
  info.command_line = kCommandLine.offset;
  info.rsdp = source.rsdp;
  TRY(std::vector<uint8_t> bytes,
      make_pvh_info(info, memory.map(), kPvhInfo.offset, kPvhInfo.length));
  TRY_VOID(memory.load("PVH start information", kPvhInfo, bytes));
  state.rip = *elf.pvh_entry;
  state.rbx = kPvhInfo.offset;
  return state;
}

Result<LoadedKernel> load_elf(const KernelSource& source, BootMemory& memory) {
  TRY(ElfImage elf, parse_elf(source.kernel));
  bool linux_wanted = source.entry == KernelEntry::kLinux;
  LoadedKernel loaded;
  if (elf.pvh_entry && !linux_wanted) {
    TRY(loaded.state, load_pvh(source, elf, memory));
    loaded.description = "ELF kernel, PVH entry";
    return loaded;
  }
  if (source.entry == KernelEntry::kPvh || (!elf.is_64bit && !linux_wanted)) {
    return make_error(ErrorKind::kUnsupported,
                      "the {} ELF kernel has no PVH note; calf starts PVH kernels, 64-bit Linux "
                      "(vmlinux) and bzImage files",
                      elf.is_64bit ? "64-bit" : "32-bit");
  }
  TRY(loaded.state, load_linux_elf(source, make_setup_header(), elf, memory));
  loaded.description = "ELF kernel, Linux entry";
  return loaded;
}

}  // namespace

Result<UnpackedBytes> unpack_kernel(std::span<const uint8_t> kernel, KernelEntry entry,
                                    uint64_t limit) {
  if (looks_like_elf(kernel) || !looks_like_bzimage(kernel)) return UnpackedBytes();
  TRY(BzImage image, parse_bzimage(kernel));
  const bool packed = image.payload && payload_format(*image.payload) != PayloadFormat::kElf;
  if (!packed || choose_entry(entry, image) != KernelEntry::kUnpacked) return UnpackedBytes();
  return unpack_payload(*image.payload, limit);
}

Result<LoadedKernel> load_kernel(const KernelSource& source, const MemoryMap& map,
                                 const devices::GuestMemory& memory) {
  BootMemory boot_memory(map, memory);
  if (looks_like_elf(source.kernel)) return load_elf(source, boot_memory);
  if (looks_like_bzimage(source.kernel)) return load_bzimage(source, boot_memory);
  return make_error(
      ErrorKind::kInvalid,
      "the kernel (-kernel) is neither a bzImage nor an ELF file; calf does not start "
      "other kinds");
}

}  // namespace calf::firmware
