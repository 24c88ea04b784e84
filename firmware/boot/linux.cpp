#include "firmware/boot/linux.h"

#include <algorithm>
#include <cstddef>

#include "firmware/boot/cpu_tables.h"
#include "firmware/boot/zero_page.h"
#include "firmware/table_area.h"

namespace calf::firmware {
namespace {

constexpr uint64_t kPackedAddress = kOneMiB;

Result<void> load_zero_page(const KernelSource& source, const SetupHeader& header, ByteRange initrd,
                            BootMemory& memory) {
  ZeroPageInfo info;
  info.command_line = static_cast<uint32_t>(kCommandLine.offset);
  info.initrd = initrd;
  info.rsdp = source.rsdp;
  TRY(std::vector<uint8_t> page, make_zero_page(header, info, memory.map()));
  return memory.load("zero page", kZeroPage, page);
}

// From where the kernel is put to the end of what it works in before it knows of the memory map:
// the packed part, and the room (init_size) at its preferred address.
ByteRange packed_footprint(const BzImage& image) {
  uint64_t end = kPackedAddress + image.protected_mode.size();
  uint64_t start = image.header.pref_address;
  // A wild number is as good as none: the range is checked against RAM.
  if (auto run = make_range(start, image.header.init_size)) end = std::max(end, run->end());
  return {kPackedAddress, end - kPackedAddress};
}

Result<void> load_packed_part(const BzImage& image, BootMemory& memory) {
  TRY_VOID(memory.claim("the kernel", packed_footprint(image)));
  return memory.write("the kernel", kPackedAddress, image.protected_mode);
}

}  // namespace

Result<void> load_segments(const ElfImage& elf, BootMemory& memory) {
  for (const ElfSegment& segment : elf.segments) {
    TRY_VOID(memory.load("the kernel's segment", segment.physical, segment.bytes));
  }
  return {};
}

Result<ByteRange> load_initrd(const KernelSource& source, uint64_t limit, BootMemory& memory) {
  if (source.initrd.empty()) return ByteRange{};
  TRY(ByteRange range, memory.claim_high("the initrd", source.initrd.size(), limit));
  TRY_VOID(memory.write("the initrd", range.offset, source.initrd));
  return range;
}

Result<void> load_command_line(const KernelSource& source, uint64_t limit, BootMemory& memory) {
  std::string_view line = source.command_line;
  uint64_t most = std::min(limit, kCommandLine.length - 1);
  if (line.size() > most) {
    return make_error(ErrorKind::kInvalid,
                      "the command line (-append) has {} characters; this kernel takes {}",
                      line.size(), most);
  }
  if (line.find('\0') != line.npos) {
    return make_error(ErrorKind::kInvalid, "the command line (-append) contains a zero byte");
  }
  return memory.load("the command line", kCommandLine,
                     {reinterpret_cast<const uint8_t*>(line.data()), line.size()});
}

Result<EntryState> load_linux_elf(const KernelSource& source, const SetupHeader& header,
                                  const ElfImage& elf, BootMemory& memory) {
  BzImage limits{};
  limits.header = header;
  EntryState state;
  if (elf.is_64bit) {
    TRY(state, prepare_long64(memory));
  } else {
    TRY(state, prepare_protected32(memory));
  }
  TRY_VOID(load_command_line(source, limits.command_line_limit(), memory));
  TRY_VOID(load_segments(elf, memory));
  TRY(ByteRange initrd, load_initrd(source, limits.initrd_limit(), memory));
  TRY_VOID(load_zero_page(source, header, initrd, memory));
  state.rip = elf.entry;
  state.rsi = kZeroPage.offset;
  return state;
}

Result<EntryState> load_linux_packed(const KernelSource& source, const BzImage& image, CpuMode mode,
                                     BootMemory& memory) {
  constexpr uint64_t kEntry64Offset = 0x200;
  SetupHeader header = image.header;
  header.code32_start = static_cast<uint32_t>(kPackedAddress);
  EntryState state;
  if (mode == CpuMode::kLong64) {
    if ((header.xloadflags & kHas64BitEntry) == 0) {
      return make_error(ErrorKind::kUnsupported, "the kernel has no 64-bit entry");
    }
    TRY(state, prepare_long64(memory));
    state.rip = kPackedAddress + kEntry64Offset;
  } else {
    TRY(state, prepare_protected32(memory));
    state.rip = kPackedAddress;
  }
  TRY_VOID(load_command_line(source, image.command_line_limit(), memory));
  TRY_VOID(load_packed_part(image, memory));
  TRY(ByteRange initrd, load_initrd(source, image.initrd_limit(), memory));
  TRY_VOID(load_zero_page(source, header, initrd, memory));
  state.rsi = kZeroPage.offset;
  return state;
}

Result<EntryState> load_linux_real_mode(const KernelSource& source, const BzImage& image,
                                        BootMemory& memory) {
  constexpr uint16_t kSegment = kRealModeArea.offset >> 4;
  constexpr uint16_t kStack = 0xFFF0;    // offset in the segment; the heap ends below,
  constexpr uint16_t kHeapEnd = 0xFE00;  // counted from the end of the first sector
  constexpr uint64_t kHeapLeast = 0x1000;
  constexpr uint16_t kEntryParagraphs = 0x20;  // the setup code starts behind the first sector
  if (image.setup.size() + kHeapLeast > kHeapEnd) {
    return make_error(ErrorKind::kInvalid, "the kernel image is damaged: {} bytes of setup code",
                      image.setup.size());
  }
  TRY_VOID(load_command_line(source, image.command_line_limit(), memory));
  TRY_VOID(load_packed_part(image, memory));
  TRY(ByteRange initrd, load_initrd(source, image.initrd_limit(), memory));

  // Only the fields that a loader writes; the rest of the header may be code.
  std::vector<uint8_t> setup(image.setup.begin(), image.setup.end());
  auto put = [&](size_t member, const auto& value) {
    std::ranges::copy(bytes_of(value), setup.begin() + kSetupHeaderOffset + member);
  };
  put(offsetof(SetupHeader, vid_mode), le16(0xFFFF));
  put(offsetof(SetupHeader, type_of_loader), kUnknownLoader);
  put(offsetof(SetupHeader, loadflags), static_cast<uint8_t>(image.header.loadflags | kCanUseHeap));
  put(offsetof(SetupHeader, heap_end_ptr), le16(kHeapEnd - 0x200));
  put(offsetof(SetupHeader, ramdisk_image), le32(static_cast<uint32_t>(initrd.offset)));
  put(offsetof(SetupHeader, ramdisk_size), le32(static_cast<uint32_t>(initrd.length)));
  put(offsetof(SetupHeader, cmd_line_ptr), le32(static_cast<uint32_t>(kCommandLine.offset)));
  TRY_VOID(memory.load("the setup code", kRealModeArea, setup));

  EntryState state;
  state.mode = CpuMode::kReal16;
  state.code_segment = kSegment + kEntryParagraphs;
  state.data_segment = kSegment;
  state.rip = 0;
  state.rsp = kStack;
  return state;
}

}  // namespace calf::firmware
