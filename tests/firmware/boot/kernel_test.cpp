// Direct boot as a whole: files in, guest memory and entry state out.
#include "firmware/boot/kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "firmware/boot/boot_memory.h"
#include "firmware/boot/pvh.h"
#include "tests/firmware/boot/boot_images.h"

namespace calf::firmware {
namespace {

using testing::HasSubstr;
using namespace testing_support;

constexpr uint64_t kRam = 64 * kOneMiB;

Bytes packed_image(PayloadFormat format, BzImageSpec spec = {}) {
  spec.payload = pack(format, make_elf({}));
  return make_bzimage(spec);
}

std::string text_at(const TestGuest& guest, uint64_t address) {
  auto bytes = guest.bytes(address, 4096);
  return std::string(reinterpret_cast<const char*>(bytes.data()));
}

class Unpacked : public testing::TestWithParam<PayloadFormat> {};

TEST_P(Unpacked, IsLoadedWhereItIsLinkedAndEnteredIn64BitMode) {
  TestGuest guest(kRam);
  guest.fill(0xAA);  // as after a reset: nothing is zero by itself
  Bytes kernel = packed_image(GetParam());
  Bytes initrd(100000, 0x5A);
  KernelSource source{.kernel = kernel,
                      .initrd = initrd,
                      .command_line = "console=ttyS0",
                      .rsdp = devices::Gpa{0xE0000}};
  auto loaded = load_kernel(source, guest.map(), guest.memory());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_FALSE(loaded->needs_bios);
  EXPECT_THAT(loaded->description, HasSubstr(to_string(GetParam())));
  EXPECT_THAT(loaded->description, HasSubstr("6.1.0-test"));

  const EntryState& state = loaded->state;
  EXPECT_EQ(state.mode, CpuMode::kLong64);
  EXPECT_EQ(state.rip, 0x1000040u);
  Bytes text = ElfSpec{}.text;
  EXPECT_TRUE(std::ranges::equal(guest.bytes(0x1000000, text.size()), text));
  auto bss = guest.bytes(0x1000000 + text.size(), 0x8000 - text.size());
  EXPECT_TRUE(std::ranges::all_of(bss, [](uint8_t byte) { return byte == 0; }));
  EXPECT_EQ(guest.at<uint8_t>(0x1008000), 0xAA);

  // The zero page, by the offsets of zero-page.rst.
  uint64_t page = state.rsi;
  EXPECT_EQ(guest.at<le64>(page + 0x070), 0xE0000u);
  EXPECT_EQ(guest.at<le32>(page + 0x1E0), 63u * 1024);
  EXPECT_EQ(guest.at<uint8_t>(page + 0x1EF), 0);  // sentinel
  EXPECT_EQ(guest.at<le16>(page + 0x1FE), 0xAA55);
  EXPECT_EQ(guest.at<le32>(page + 0x202), 0x53726448u);
  EXPECT_EQ(guest.at<le16>(page + 0x206), 0x20F);
  EXPECT_EQ(guest.at<uint8_t>(page + 0x210), 0xFF);  // loader
  EXPECT_EQ(text_at(guest, guest.at<le32>(page + 0x228)), "console=ttyS0");
  uint64_t initrd_at = guest.at<le32>(page + 0x218);
  EXPECT_EQ(guest.at<le32>(page + 0x21C), initrd.size());
  EXPECT_EQ(initrd_at, align_down(kRam - initrd.size(), kPageSize));
  EXPECT_TRUE(std::ranges::equal(guest.bytes(initrd_at, initrd.size()), initrd));
  EXPECT_EQ(guest.at<le64>(page + 0x258), 0x1000000u);
  ASSERT_EQ(guest.at<uint8_t>(page + 0x1E8), guest.map().e820().size());
  for (size_t i = 0; i < guest.map().e820().size(); ++i) {
    auto entry = guest.at<E820Entry>(page + 0x2D0 + i * sizeof(E820Entry));
    EXPECT_EQ(entry.base, guest.map().e820()[i].base);
    EXPECT_EQ(entry.length, guest.map().e820()[i].length);
    EXPECT_EQ(entry.type, guest.map().e820()[i].type);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Unpacked,
                         testing::Values(PayloadFormat::kElf, PayloadFormat::kGzip,
                                         PayloadFormat::kZstd, PayloadFormat::kLz4,
                                         PayloadFormat::kXz, PayloadFormat::kLzma),
                         [](const auto& param_info) {
                           return std::string(to_string(param_info.param));
                         });

// Walks the page tables as the processor does.
uint64_t translate(const TestGuest& guest, uint64_t cr3, uint64_t address) {
  uint64_t table = cr3;
  for (unsigned shift = 39; shift >= 21; shift -= 9) {
    uint64_t entry = guest.at<le64>(table + (address >> shift & 511) * 8);
    EXPECT_TRUE(entry & 1) << std::hex << address;
    table = entry & 0x000FFFFFFFFFF000;
    if (entry & 0x80) return (table & ~((1ULL << shift) - 1)) | (address & ((1ULL << shift) - 1));
  }
  return UINT64_MAX;
}

TEST(Kernel, LongModeHasIdentityMapAndSegments) {
  TestGuest guest(kRam);
  Bytes kernel = packed_image(PayloadFormat::kLz4);
  auto loaded = load_kernel({.kernel = kernel}, guest.map(), guest.memory());
  ASSERT_TRUE(loaded.ok());
  const EntryState& state = loaded->state;
  for (uint64_t address :
       {uint64_t{0}, uint64_t{0x7123}, uint64_t{0x1000040}, 3 * kOneGiB + 5, kFourGiB - 1})
    EXPECT_EQ(translate(guest, raw(state.page_tables), address), address);
  EXPECT_EQ(state.code_segment, 0x10);
  EXPECT_EQ(state.data_segment, 0x18);
  EXPECT_EQ(guest.at<le64>(raw(state.gdt) + 0x10), 0x00AF9B000000FFFFu);
  EXPECT_EQ(guest.at<le64>(raw(state.gdt) + 0x18), 0x00CF93000000FFFFu);
  EXPECT_EQ(state.gdt_limit, 31);
}

// As the machine does it: unpacked before there is guest memory. The payload of the file that is
// loaded is damaged, so that it must have come from there.
TEST(Kernel, TakesAPayloadThatWasUnpackedBefore) {
  const Bytes kernel = packed_image(PayloadFormat::kLz4);
  auto unpacked = unpack_kernel(kernel, KernelEntry::kAuto, kRam);
  ASSERT_TRUE(unpacked.ok()) << unpacked.error().message();
  ASSERT_FALSE(unpacked->span().empty());
  TestGuest guest(kRam), other(kRam);
  auto loaded = load_kernel({.kernel = kernel}, guest.map(), guest.memory());
  Bytes damaged = kernel;
  std::fill(damaged.end() - 64, damaged.end(), uint8_t{0xFF});
  ASSERT_FALSE(load_kernel({.kernel = damaged}, other.map(), other.memory()).ok());
  auto again =
      load_kernel({.kernel = damaged, .unpacked = unpacked->span()}, other.map(), other.memory());
  ASSERT_TRUE(loaded.ok() && again.ok());
  EXPECT_EQ(loaded->state.rip, again->state.rip);
  EXPECT_TRUE(
      std::ranges::equal(guest.bytes(loaded->state.rip, 64), other.bytes(again->state.rip, 64)));
}

TEST(Kernel, NothingIsUnpackedThatIsLoadedAsItIs) {
  for (KernelEntry entry : {KernelEntry::kSelfUnpack, KernelEntry::kPacked32}) {
    auto unpacked = unpack_kernel(packed_image(PayloadFormat::kXz), entry, kRam);
    ASSERT_TRUE(unpacked.ok());
    EXPECT_TRUE(unpacked->span().empty());
  }
  auto none = unpack_kernel(Bytes{'n', 'o', 'n', 'e'}, KernelEntry::kAuto, kRam);
  EXPECT_TRUE(none.ok() && none->span().empty()) << "load_kernel() says what is wrong with it";
}

TEST(Kernel, PackedEntriesLoadTheProtectedModePartAtOneMiB) {
  Bytes kernel = packed_image(PayloadFormat::kXz);
  for (KernelEntry entry :
       {KernelEntry::kPacked64, KernelEntry::kSelfUnpack, KernelEntry::kPacked32}) {
    TestGuest guest(kRam);
    auto loaded = load_kernel({.kernel = kernel, .entry = entry}, guest.map(), guest.memory());
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    bool narrow = entry == KernelEntry::kPacked32;
    EXPECT_EQ(loaded->state.mode, narrow ? CpuMode::kProtected32 : CpuMode::kLong64);
    EXPECT_EQ(loaded->state.rip, narrow ? 0x100000u : 0x100200u);
    EXPECT_EQ(guest.at<le32>(loaded->state.rsi + 0x214), 0x100000u);
    std::span<const uint8_t> part = std::span(kernel).subspan(8 * 512);
    EXPECT_TRUE(std::ranges::equal(guest.bytes(0x100000, part.size()), part));
  }
}

TEST(Kernel, PayloadsThatCalfCannotReadUnpackThemselves) {
  TestGuest guest(kRam);
  BzImageSpec spec{.payload = {'B', 'Z', 'h', '9', 1, 2, 3, 4, 5, 6, 7, 8}};
  Bytes kernel = make_bzimage(spec);
  auto loaded = load_kernel({.kernel = kernel}, guest.map(), guest.memory());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_EQ(loaded->state.rip, 0x100200u);

  spec.xloadflags = 0;  // a 32-bit kernel
  kernel = make_bzimage(spec);
  TestGuest second(kRam);
  loaded = load_kernel({.kernel = kernel}, second.map(), second.memory());
  ASSERT_TRUE(loaded.ok());
  EXPECT_TRUE(loaded->needs_bios);
  EXPECT_EQ(loaded->state.mode, CpuMode::kReal16);

  auto forced = load_kernel({.kernel = kernel, .entry = KernelEntry::kUnpacked}, second.map(),
                            second.memory());
  ASSERT_FALSE(forced.ok());
  EXPECT_THAT(forced.error().message(), HasSubstr("bzip2"));
}

TEST(Kernel, RealMode) {
  TestGuest guest(kRam);
  Bytes kernel = make_bzimage({.version = 0x207});  // iPXE's form: no payload
  Bytes initrd(5000, 1);
  auto loaded = load_kernel({.kernel = kernel, .initrd = initrd, .command_line = "dhcp"},
                            guest.map(), guest.memory());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_TRUE(loaded->needs_bios);
  const EntryState& state = loaded->state;
  EXPECT_EQ(state.mode, CpuMode::kReal16);
  EXPECT_EQ(state.code_segment, 0x1020);
  EXPECT_EQ(state.data_segment, 0x1000);
  EXPECT_EQ(state.rip, 0u);
  EXPECT_EQ(state.rsp, 0xFFF0u);
  constexpr uint64_t kSetup = 0x10000;
  EXPECT_EQ(guest.at<uint8_t>(kSetup + 0x210), 0xFF);
  EXPECT_EQ(guest.at<uint8_t>(kSetup + 0x211), 0x81);  // loaded high, heap
  EXPECT_EQ(guest.at<le16>(kSetup + 0x224), 0xFC00);
  EXPECT_EQ(text_at(guest, guest.at<le32>(kSetup + 0x228)), "dhcp");
  EXPECT_EQ(guest.at<le32>(kSetup + 0x21C), 5000u);
  std::span<const uint8_t> part = std::span(kernel).subspan(8 * 512);
  EXPECT_TRUE(std::ranges::equal(guest.bytes(0x100000, part.size()), part));
}

TEST(Kernel, PvhGetsStartInformation) {
  for (bool wide : {true, false}) {
    TestGuest guest(kRam);
    Bytes kernel = make_elf(
        {.is_64bit = wide, .physical = 0x200000, .virtual_address = 0x200000, .pvh_note = true});
    Bytes initrd(12345, 7);
    auto loaded = load_kernel({.kernel = kernel,
                               .initrd = initrd,
                               .command_line = "pvh line",
                               .rsdp = devices::Gpa{0xE0010}},
                              guest.map(), guest.memory());
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    EXPECT_EQ(loaded->state.mode, CpuMode::kProtected32);
    EXPECT_EQ(loaded->state.rip, 0x200080u);
    EXPECT_EQ(guest.at<le64>(raw(loaded->state.gdt) + 0x10), 0x00CF9B000000FFFFu);
    auto info = guest.at<PvhStartInfo>(loaded->state.rbx);
    EXPECT_EQ(info.magic, 0x336EC578u);
    EXPECT_EQ(info.version, 1u);
    EXPECT_EQ(info.rsdp, 0xE0010u);
    EXPECT_EQ(text_at(guest, info.command_line), "pvh line");
    ASSERT_EQ(info.module_count, 1u);
    auto module = guest.at<PvhModule>(info.modules);
    EXPECT_EQ(module.size, 12345u);
    EXPECT_EQ(guest.at<uint8_t>(module.address + 12344), 7);
    ASSERT_EQ(info.memory_map_entries, guest.map().e820().size());
    auto first = guest.at<PvhMemoryRange>(info.memory_map);
    EXPECT_EQ(first.size, kLowRamEnd);
    EXPECT_EQ(first.type, 1u);
  }
}

TEST(Kernel, ElfWithoutNoteIsEnteredAsLinux) {
  TestGuest guest(kRam);
  Bytes kernel = make_elf({});
  auto loaded = load_kernel({.kernel = kernel, .command_line = "x"}, guest.map(), guest.memory());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_EQ(loaded->state.mode, CpuMode::kLong64);
  EXPECT_EQ(loaded->state.rip, 0x1000040u);
  EXPECT_EQ(guest.at<le32>(loaded->state.rsi + 0x202), 0x53726448u);

  Bytes with_note = make_elf({.pvh_note = true});
  TestGuest second(kRam);
  loaded = load_kernel({.kernel = with_note, .entry = KernelEntry::kLinux}, second.map(),
                       second.memory());
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(loaded->state.mode, CpuMode::kLong64);

  Bytes narrow = make_elf({.is_64bit = false, .virtual_address = 0xC1000000});
  EXPECT_EQ(load_kernel({.kernel = narrow}, second.map(), second.memory()).error().kind(),
            ErrorKind::kUnsupported);
}

TEST(Kernel, InitrdStaysBelowTheKernelsLimitAndOffTheKernel) {
  // RAM ends right behind the kernel's room, so the initrd goes below it.
  TestGuest guest(20 * kOneMiB);
  Bytes kernel = packed_image(PayloadFormat::kGzip);
  Bytes initrd(6 * kOneMiB, 3);
  auto loaded = load_kernel({.kernel = kernel, .initrd = initrd}, guest.map(), guest.memory());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  uint64_t at = guest.at<le32>(loaded->state.rsi + 0x218);
  EXPECT_EQ(at, 10 * kOneMiB);
  EXPECT_EQ(guest.at<uint8_t>(0x1000000), ElfSpec{}.text[0]);

  BzImageSpec low{.initrd_addr_max = 0x7FFFFF};
  kernel = packed_image(PayloadFormat::kGzip, low);
  Bytes small(kOneMiB, 4);
  TestGuest second(kRam);
  loaded = load_kernel({.kernel = kernel, .initrd = small}, second.map(), second.memory());
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(second.at<le32>(loaded->state.rsi + 0x218), 7 * kOneMiB);
}

TEST(Kernel, InitrdNeverGoesAboveFourGiB) {
  TestGuest guest(5 * kOneGiB);
  Bytes kernel = packed_image(PayloadFormat::kGzip, {.initrd_addr_max = 0xFFFFFFFF});
  Bytes initrd(kOneMiB, 3);
  auto loaded = load_kernel({.kernel = kernel, .initrd = initrd}, guest.map(), guest.memory());
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(guest.at<le32>(loaded->state.rsi + 0x218), 3 * kOneGiB - kOneMiB);
}

TEST(Kernel, ErrorsSayWhatToDo) {
  TestGuest guest(20 * kOneMiB);
  auto error_of = [&](const KernelSource& source) {
    auto loaded = load_kernel(source, guest.map(), guest.memory());
    EXPECT_FALSE(loaded.ok());
    return loaded.ok() ? std::string() : loaded.error().message();
  };
  Bytes kernel = packed_image(PayloadFormat::kGzip);
  Bytes big(20 * kOneMiB);
  EXPECT_THAT(error_of({.kernel = kernel, .initrd = big}), HasSubstr("more memory (-m)"));
  std::string line(2048, 'x');
  EXPECT_THAT(error_of({.kernel = kernel, .command_line = line}),
              HasSubstr("2048 characters; this kernel takes 2047"));
  Bytes nonsense(5000, 'n');
  EXPECT_THAT(error_of({.kernel = nonsense}), HasSubstr("neither a bzImage nor an ELF"));
  EXPECT_THAT(error_of({}), HasSubstr("neither"));
  Bytes far = make_elf({.physical = 0x3000000});
  EXPECT_THAT(error_of({.kernel = far}), HasSubstr("more memory"));
  Bytes on_tables = make_elf({.physical = 0x4000, .pvh_note = true});
  EXPECT_THAT(error_of({.kernel = on_tables}), HasSubstr("overlaps"));
  Bytes cut(kernel.begin(), kernel.end() - 100);
  EXPECT_THAT(error_of({.kernel = cut}), HasSubstr("cut short"));
  Bytes room = packed_image(PayloadFormat::kGzip, {.init_size = 0x10000000});
  EXPECT_THAT(error_of({.kernel = room, .entry = KernelEntry::kPacked64}), HasSubstr("-m"));
  Bytes old = make_bzimage({.version = 0x201});
  EXPECT_THAT(error_of({.kernel = old}), HasSubstr("2.01"));
}

TEST(Kernel, DamagedImagesAreErrorsOrLoads) {
  std::mt19937 random(11);
  TestGuest guest(20 * kOneMiB);
  Bytes initrd(5000, 1);
  std::vector<Bytes> originals = {packed_image(PayloadFormat::kElf),
                                  packed_image(PayloadFormat::kLz4), make_elf({.pvh_note = true}),
                                  make_bzimage({.version = 0x207})};
  for (int i = 0; i < 4000; ++i) {
    Bytes kernel = originals[static_cast<size_t>(i) % originals.size()];
    for (unsigned n = 0; n < 1 + i % 5; ++n) {
      size_t at = random() % 3 ? 0x1F1 + random() % 0x80 : random() % kernel.size();
      kernel[at] = static_cast<uint8_t>(random() % 2 ? random() : 0xFF);
    }
    KernelSource source{.kernel = kernel, .initrd = initrd, .command_line = "quiet"};
    source.entry = static_cast<KernelEntry>(random() % 8);
    auto loaded = load_kernel(source, guest.map(), guest.memory());
    EXPECT_TRUE(loaded.ok() || !loaded.error().message().empty());
  }
}

}  // namespace
}  // namespace calf::firmware
