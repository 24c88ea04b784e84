#include "firmware/boot/elf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/firmware/boot/boot_images.h"

namespace calf::firmware {
namespace {

using testing_support::Bytes;
using testing_support::ElfSpec;
using testing_support::make_elf;
using testing_support::object_at;

template <class T>
void put(Bytes& file, size_t offset, T value) {
  std::memcpy(file.data() + offset, &value, sizeof value);
}

constexpr size_t kFirstHeader = sizeof(Elf64_Ehdr);
size_t field(size_t in_program_header) {
  return kFirstHeader + in_program_header;
}

TEST(Elf, ReadsSegmentsAndEntry) {
  for (bool wide : {true, false}) {
    ElfSpec spec{.is_64bit = wide, .virtual_address = 0xC1000000, .pvh_note = true};
    Bytes file = make_elf(spec);
    auto image = parse_elf(file);
    ASSERT_TRUE(image.ok()) << image.error().message();
    EXPECT_EQ(image->is_64bit, wide);
    EXPECT_EQ(image->entry, 0x1000040u);
    EXPECT_EQ(image->pvh_entry, 0x1000080u);
    ASSERT_EQ(image->segments.size(), 1u);
    EXPECT_EQ(image->segments[0].physical, (ByteRange{0x1000000, 0x8000}));
    EXPECT_TRUE(std::ranges::equal(image->segments[0].bytes, spec.text));
  }
}

TEST(Elf, TranslatesAVirtualEntry) {
  Bytes file = make_elf({});
  put<uint64_t>(file, offsetof(Elf64_Ehdr, e_entry), 0xFFFFFFFF81000123);
  auto image = parse_elf(file);
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->entry, 0x1000123u);
}

TEST(Elf, WithoutNoteThereIsNoPvhEntry) {
  Bytes file = make_elf({});
  EXPECT_FALSE(parse_elf(file)->pvh_entry.has_value());
}

TEST(Elf, RefusesWildNumbers) {
  struct Case {
    const char* what;
    size_t offset;
    uint64_t value;
  };
  std::vector<Case> cases = {
      {"entry", offsetof(Elf64_Ehdr, e_entry), 0x1008000},
      {"headers outside", offsetof(Elf64_Ehdr, e_phoff), 1 << 20},
      {"headers wrap", offsetof(Elf64_Ehdr, e_phoff), UINT64_MAX - 8},
      {"segment outside", field(offsetof(Elf64_Phdr, p_offset)), 1 << 20},
      {"segment offset wraps", field(offsetof(Elf64_Phdr, p_offset)), UINT64_MAX},
      {"file size wraps", field(offsetof(Elf64_Phdr, p_filesz)), UINT64_MAX},
      {"file beyond memory", field(offsetof(Elf64_Phdr, p_memsz)), 10},
      {"memory wraps", field(offsetof(Elf64_Phdr, p_memsz)), UINT64_MAX},
      {"address wraps", field(offsetof(Elf64_Phdr, p_paddr)), UINT64_MAX - 100},
      {"nothing to load", field(offsetof(Elf64_Phdr, p_memsz)), 0},
  };
  for (const Case& c : cases) {
    Bytes file = make_elf({});
    put(file, c.offset, c.value);
    auto image = parse_elf(file);
    ASSERT_FALSE(image.ok()) << c.what;
    EXPECT_EQ(image.error().kind(), ErrorKind::kInvalid) << c.what;
  }
}

TEST(Elf, RefusesOtherMachines) {
  Bytes file = make_elf({});
  put<uint16_t>(file, offsetof(Elf64_Ehdr, e_machine), EM_AARCH64);
  EXPECT_EQ(parse_elf(file).error().kind(), ErrorKind::kUnsupported);
  file = make_elf({});
  file[EI_DATA] = ELFDATA2MSB;
  EXPECT_EQ(parse_elf(file).error().kind(), ErrorKind::kUnsupported);
  file = make_elf({});
  file[EI_CLASS] = 9;
  EXPECT_FALSE(parse_elf(file).ok());
}

TEST(Elf, RefusesAPvhEntryThatIsNotLoaded) {
  Bytes file = make_elf({.pvh_note = true, .pvh_entry_offset = 0x8000});
  EXPECT_FALSE(parse_elf(file).ok());
}

TEST(Elf, EveryShortenedFileIsRefusedOrRead) {
  Bytes file = make_elf({.pvh_note = true});
  for (size_t size = 0; size < file.size(); size += size < 0x300 ? 1 : 97) {
    Bytes part(file.begin(), file.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(parse_elf(part).ok()) << size;
  }
}

TEST(Elf, DamagedHeadersNeverLeadOutOfTheFile) {
  std::mt19937 random(3);
  for (int i = 0; i < 50000; ++i) {
    Bytes file = make_elf({.text = Bytes(256), .memory_size = 0x1000, .pvh_note = true});
    for (unsigned n = 0; n < 1 + i % 4; ++n) {
      // Headers and notes; not the first bytes, which would only make it no ELF.
      size_t at = random() % 2 ? 16 + random() % 160 : file.size() - 1 - random() % 40;
      file[at] = static_cast<uint8_t>(random() % 4 ? 0xFF >> random() % 8 : random());
    }
    auto image = parse_elf(file);
    if (!image.ok()) continue;
    for (const ElfSegment& segment : image->segments) {
      EXPECT_GE(segment.bytes.data(), file.data());
      EXPECT_LE(segment.bytes.data() + segment.bytes.size(), file.data() + file.size());
      EXPECT_LE(segment.bytes.size(), segment.physical.length);
      EXPECT_GE(segment.physical.end(), segment.physical.offset);
    }
  }
}

}  // namespace
}  // namespace calf::firmware
