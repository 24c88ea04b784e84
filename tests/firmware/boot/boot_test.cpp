// Booting: master boot records, El Torito by hand and in the wild, and what is said when there is
// nothing.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "firmware/boot/el_torito.h"
#include "firmware/boot/mbr.h"
#include "tests/firmware/bios/bios_fixture.h"

namespace calf::firmware {
namespace {

using devices::Gpa;

// A CD image with a catalogue at sector 20 and boot images from sector 30 on.
class CdImage {
 public:
  CdImage() : bytes(4 << 20) {
    descriptor(16, 1, "");
    descriptor(17, 0, "EL TORITO SPECIFICATION");
    put32(17 * 2048 + 71, 20);
    descriptor(18, 255, "");
    validation(0);
  }
  void descriptor(size_t sector, uint8_t type, std::string_view system) {
    uint8_t* p = &bytes[sector * 2048];
    p[0] = type;
    std::memcpy(p + 1, "CD001\1", 6);
    std::memcpy(p + 7, system.data(), system.size());
  }
  void validation(uint8_t platform) {
    uint8_t* p = &bytes[20 * 2048];
    std::memset(p, 0, 32);
    p[0] = 1;
    p[1] = platform;
    p[30] = 0x55;
    p[31] = 0xAA;
    uint16_t sum = 0;
    for (int i = 0; i < 32; i += 2)
      sum = static_cast<uint16_t>(sum + (p[i] | p[i + 1] << 8));
    p[28] = static_cast<uint8_t>(-sum);
    p[29] = static_cast<uint8_t>(static_cast<uint16_t>(-sum) >> 8);
  }
  void entry(size_t index, uint8_t media, uint16_t segment, uint16_t sectors, uint32_t lba,
             uint8_t bootable = 0x88) {
    uint8_t* p = &bytes[20 * 2048 + index * 32];
    p[0] = bootable;
    p[1] = media;
    p[2] = static_cast<uint8_t>(segment);
    p[3] = static_cast<uint8_t>(segment >> 8);
    p[6] = static_cast<uint8_t>(sectors);
    p[7] = static_cast<uint8_t>(sectors >> 8);
    std::memcpy(p + 8, &lba, 4);
  }
  void section(size_t index, uint8_t header, uint8_t platform, uint8_t entries) {
    uint8_t* p = &bytes[20 * 2048 + index * 32];
    p[0] = header;
    p[1] = platform;
    p[2] = entries;
  }
  void put32(size_t at, uint32_t value) { std::memcpy(&bytes[at], &value, 4); }

  Result<BootEntry> find() const {
    CdReader reader = [this](uint64_t offset, std::span<uint8_t> to) -> Result<void> {
      if (offset > bytes.size() || to.size() > bytes.size() - offset) {
        return Error(ErrorKind::kIo, "outside");
      }
      std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(offset), to.size(), to.begin());
      return {};
    };
    return find_boot_entry(reader, bytes.size());
  }

  std::vector<uint8_t> bytes;
};

std::string refusal(const CdImage& cd) {
  auto found = cd.find();
  return found.ok() ? "" : found.error().message();
}

TEST(ElTorito, NoEmulation) {
  CdImage cd;
  cd.entry(1, 0, 0, 4, 30);
  auto entry = cd.find();
  ASSERT_TRUE(entry.ok()) << entry.error().message();
  EXPECT_EQ(entry->media, BootMedia::kNoEmulation);
  EXPECT_EQ(entry->load_segment, 0x7C0);
  EXPECT_EQ(entry->load_bytes, 2048u);
  EXPECT_EQ(entry->image.offset, 30u * 2048);
}

TEST(ElTorito, MissingSectorCountMeansOne) {
  CdImage cd;
  cd.entry(1, 0, 0x1000, 0, 30);
  auto entry = cd.find();
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry->load_bytes, 2048u);
  EXPECT_EQ(entry->load_segment, 0x1000);
}

TEST(ElTorito, BiosEntryBehindOneForUefi) {
  CdImage cd;
  cd.validation(0xEF);
  cd.entry(1, 0, 0, 4, 30);
  cd.section(2, 0x90, 0xEF, 1);
  cd.entry(3, 0, 0, 4, 31);
  cd.section(4, 0x91, 0x00, 2);
  cd.entry(5, 0, 0, 4, 32, 0x00);
  cd.entry(6, 0, 0, 4, 33);
  auto entry = cd.find();
  ASSERT_TRUE(entry.ok()) << entry.error().message();
  EXPECT_EQ(entry->first_sector, 33u);
}

TEST(ElTorito, Refusals) {
  {
    CdImage cd;
    EXPECT_NE(refusal(cd).find("no bootable entry"), std::string::npos);
    cd.validation(0xEF);
    cd.entry(1, 0, 0, 4, 30);
    EXPECT_NE(refusal(cd).find("UEFI only"), std::string::npos);
    cd.validation(0);
    cd.bytes[20 * 2048 + 5] ^= 1;
    EXPECT_NE(refusal(cd).find("damaged"), std::string::npos);
  }
  {
    CdImage cd;
    cd.put32(17 * 2048 + 71, 0xFFFFFFFF);
    EXPECT_NE(refusal(cd).find("outside"), std::string::npos);
  }
  {
    CdImage cd;
    cd.bytes[17 * 2048] = 2;
    EXPECT_NE(refusal(cd).find("no El Torito"), std::string::npos);
    cd.bytes[17 * 2048 + 1] = 'X';
    EXPECT_NE(refusal(cd).find("not a CD"), std::string::npos);
    cd.bytes.resize(1000);
    EXPECT_NE(refusal(cd).find("too small"), std::string::npos);
  }
  for (uint32_t lba : {0u, 2048u, 0xFFFFFFFFu}) {
    for (uint8_t media : {0, 1, 2, 3, 4}) {
      CdImage cd;
      cd.entry(1, media, 0, 1, lba);
      EXPECT_NE(refusal(cd), "") << lba << " " << int{media};
    }
  }
  CdImage cd;
  cd.entry(1, 5, 0, 1, 30);
  EXPECT_NE(refusal(cd).find("media type"), std::string::npos);
  cd.entry(1, 0, 0, 0xFFFF, 2047);
  EXPECT_NE(refusal(cd).find("cut off"), std::string::npos);
}

TEST(ElTorito, CataloguesOfNonsense) {
  std::mt19937 random(7);
  CdImage cd;
  for (int i = 0; i < 20000; ++i) {
    for (unsigned at = 0; at < 2048; ++at)
      cd.bytes[20 * 2048 + at] =
          static_cast<uint8_t>(random() % 8 ? random() : 0x88 + random() % 10);
    cd.validation(random() % 2 ? 0 : 0xEF);
    auto found = cd.find();
    if (found.ok()) {
      EXPECT_LE(found->image.end(), cd.bytes.size());
      EXPECT_LE(found->load_bytes, found->image.length);
    }
  }
}

TEST(ElTorito, GrubRescueCd) {
  const char* path = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso";
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << "missing: " << path << " (package grub-rescue-pc)";
  }
  std::ifstream file(path, std::ios::binary);
  CdImage cd;
  cd.bytes.assign(std::istreambuf_iterator<char>(file), {});
  auto entry = cd.find();
  ASSERT_TRUE(entry.ok()) << entry.error().message();
  EXPECT_EQ(entry->media, BootMedia::kNoEmulation);
  EXPECT_EQ(entry->load_segment, 0x7C0);
  EXPECT_EQ(entry->load_bytes, 2048u);
}

TEST(Mbr, Checks) {
  std::array<uint8_t, 512> sector{};
  EXPECT_NE(check_boot_sector(sector).error().message().find("empty"), std::string::npos);
  sector[0] = 0xFA;
  EXPECT_NE(check_boot_sector(sector).error().message().find("55 AA"), std::string::npos);
  sector[510] = 0x55;
  sector[511] = 0xAA;
  EXPECT_TRUE(check_boot_sector(sector).ok());
  sector[0] = 0;
  EXPECT_NE(check_boot_sector(sector).error().message().find("no boot code"), std::string::npos);
  sector[446 + 4] = 0xEE;
  EXPECT_NE(check_boot_sector(sector).error().message().find("UEFI"), std::string::npos);
}

class BootTest : public BiosFixture {
 protected:
  static std::unique_ptr<MemoryNode> disk(std::string_view code, bool signature = true) {
    auto node = std::make_unique<MemoryNode>(1 << 20);
    std::copy(code.begin(), code.end(), node->bytes.begin());
    if (signature) {
      node->bytes[510] = 0x55;
      node->bytes[511] = 0xAA;
    }
    return node;
  }
  static std::unique_ptr<MemoryNode> cd(const CdImage& image) {
    return std::make_unique<MemoryNode>(image.bytes);
  }
  std::string text_at(uint32_t address, size_t length) {
    std::string text(length, ' ');
    for (size_t i = 0; i < length; ++i)
      text[i] = static_cast<char>(memory.byte(Gpa{address + i}));
    return text;
  }
  // INT 13h 4Bh with the packet at 0:6000.
  SpecificationPacket packet(uint8_t action, uint8_t drive) {
    regs.ax.set_word(0x4B00u | action);
    regs.dx.set_low(drive);
    regs.ds = 0;
    regs.si.set_word(0x6000);
    call(0x13);
    SpecificationPacket p{};
    EXPECT_TRUE(memory.read_object(Gpa{0x6000}, p));
    return p;
  }
};

TEST_F(BootTest, FromAHardDisk) {
  add_disk(disk("boot me"));
  start();
  ASSERT_TRUE(bios_->boot(regs).ok());
  EXPECT_EQ(regs.cs, 0);
  EXPECT_EQ(regs.ip, 0x7C00);
  EXPECT_EQ(regs.dx.low(), 0x80);
  EXPECT_EQ(text_at(0x7C00, 7), "boot me");
  EXPECT_EQ(memory.word(Gpa{0x7DFE}), 0xAA55);
  EXPECT_EQ(bios_->text(), "");
}

TEST_F(BootTest, SecondDiskIfTheFirstIsEmpty) {
  add_disk(disk("", false));
  add_disk(disk("second"));
  start();
  ASSERT_TRUE(bios_->boot(regs).ok());
  EXPECT_EQ(regs.dx.low(), 0x81);
  EXPECT_EQ(text_at(0x7C00, 6), "second");
}

TEST_F(BootTest, OrderIsTheConfigurations) {
  add_disk(disk("first"));
  CdImage image;
  image.entry(1, 0, 0, 4, 30);
  std::memcpy(&image.bytes[30 * 2048], "from CD", 7);
  add_disk(cd(image), DiskKind::kCdrom);
  config_.boot_sequence = {1, 0, 17};
  start();
  ASSERT_TRUE(bios_->boot(regs).ok());
  EXPECT_EQ(regs.dx.low(), 0xE0);
  EXPECT_EQ(text_at(0x7C00, 7), "from CD");
  // No emulation: the packet tells the program where it comes from.
  auto p = packet(1, 0xE0);
  EXPECT_FALSE(carry());
  EXPECT_EQ(p.size, 0x13);
  EXPECT_EQ(p.media, 0);
  EXPECT_EQ(p.drive, 0xE0);
  EXPECT_EQ(p.first_sector, 30u);
  EXPECT_EQ(p.sectors, 4);
  packet(1, 0x80);
  EXPECT_TRUE(carry());
  // INT 18h: the next one; then none.
  EXPECT_EQ(call(0x18), Outcome::kResume);
  EXPECT_EQ(regs.dx.low(), 0x80);
  EXPECT_EQ(regs.ip, 0x7C00);
  EXPECT_EQ(text_at(0x7C00, 5), "first");
  EXPECT_EQ(call(0x18), Outcome::kNoBootDisk);
  EXPECT_EQ(memory.byte(here()), 0xFA);
  // INT 19h: from the start.
  EXPECT_EQ(call(0x19), Outcome::kResume);
  EXPECT_EQ(regs.dx.low(), 0xE0);
}

TEST_F(BootTest, FloppyEmulation) {
  CdImage image;
  image.entry(1, 2, 0, 1, 30);
  for (uint32_t i = 0; i < 2880; ++i)
    image.put32(30 * 2048 + i * 512, i);
  image.bytes.resize(30 * 2048 + 2880 * 512);
  add_disk(cd(image), DiskKind::kCdrom);
  add_disk(disk("other"));
  config_.boot_sequence = {0};
  start();
  ASSERT_TRUE(bios_->boot(regs).ok());
  EXPECT_EQ(regs.dx.low(), 0x00);
  call(0x11);
  EXPECT_EQ(regs.ax.word() & 0xC1, 1);
  // Cylinder 1, head 1, sector 3 of 80/2/18.
  regs.ax.set_word(0x0201);
  regs.bx.set_word(0x8000);
  regs.cx.set_word(0x0103);
  regs.dx.set_word(0x0100);
  regs.es = 0;
  call(0x13);
  EXPECT_FALSE(carry());
  EXPECT_EQ(memory.dword(Gpa{0x8000}), (1 * 2 + 1) * 18 + 2u);
  regs.ax.set_word(0x0301);
  call(0x13);
  EXPECT_EQ(regs.ax.high(), 0x03);
  regs.ax.set_word(0x0800);
  regs.dx.set_word(0);
  call(0x13);
  EXPECT_EQ(regs.bx.low(), 4);
  EXPECT_EQ(regs.cx.word(), 0x4F12);
  EXPECT_EQ(regs.dx.word(), 0x0101);
  EXPECT_EQ(regs.es, 0xF000);
  auto p = packet(1, 0x00);
  EXPECT_EQ(p.media, 2);
  EXPECT_EQ(p.cylinders, 79);
  EXPECT_EQ(p.heads, 1);
  // Terminated: the drive is gone.
  packet(0, 0x00);
  EXPECT_FALSE(carry());
  regs.ax.set_word(0x0201);
  regs.cx.set_word(0x0001);
  regs.dx.set_word(0);
  call(0x13);
  EXPECT_TRUE(carry());
}

TEST_F(BootTest, HardDiskEmulationMovesTheOthers) {
  CdImage image;
  image.entry(1, 4, 0, 1, 30);
  uint8_t* mbr = &image.bytes[30 * 2048];
  std::memcpy(mbr, "emulated", 8);
  const uint8_t partition[16] = {0x80, 1, 1, 0, 6, 3, 16, 9, 16, 0, 0, 0, 0x70, 2, 0, 0};  // 4/16
  std::memcpy(mbr + 446, partition, 16);
  mbr[510] = 0x55;
  mbr[511] = 0xAA;
  add_disk(disk("real disk"));
  add_disk(cd(image), DiskKind::kCdrom);
  config_.boot_sequence = {1};
  start();
  EXPECT_EQ(memory.byte(Gpa{0x475}), 1);
  ASSERT_TRUE(bios_->boot(regs).ok());
  EXPECT_EQ(regs.dx.low(), 0x80);
  EXPECT_EQ(text_at(0x7C00, 8), "emulated");
  EXPECT_EQ(memory.byte(Gpa{0x475}), 2);
  regs.ax.set_word(0x0800);
  regs.dx.set_low(0x80);
  call(0x13);
  EXPECT_EQ(regs.dx.word(), 0x0302);
  EXPECT_EQ(regs.cx.word(), 0x0910);
  regs.ax.set_word(0x0201);
  regs.bx.set_word(0x8000);
  regs.cx.set_word(0x0001);
  regs.dx.set_word(0x0081);
  regs.es = 0;
  call(0x13);
  EXPECT_EQ(text_at(0x8000, 9), "real disk");
}

TEST_F(BootTest, NothingBootableSaysWhatWasTried) {
  add_disk(disk("", false));
  add_disk(disk("code", false));
  add_disk(std::make_unique<MemoryNode>(100));
  add_disk(std::make_unique<MemoryNode>(1 << 20), DiskKind::kCdrom);
  start();
  auto booted = bios_->boot(regs);
  ASSERT_FALSE(booted.ok());
  EXPECT_EQ(booted.error().kind(), ErrorKind::kNotFound);
  std::string text = booted.error().message();
  EXPECT_NE(text.find("test.qcow2 (hard disk): the first sector is empty"), std::string::npos)
      << text;
  EXPECT_NE(text.find("no boot signature"), std::string::npos);
  EXPECT_NE(text.find("test.iso (CD): it is not a CD image"), std::string::npos);
  EXPECT_NE(text.find("-kernel"), std::string::npos);
  EXPECT_EQ(bios_->text(), text);
}

TEST_F(BootTest, NoDisksAtAll) {
  start();
  auto booted = bios_->boot(regs);
  ASSERT_FALSE(booted.ok());
  EXPECT_NE(booted.error().message().find("-cdrom"), std::string::npos);
}

TEST_F(BootTest, ReadErrorsAreReasonsToo) {
  add_disk(disk("boot me")).broken = true;
  start();
  auto booted = bios_->boot(regs);
  ASSERT_FALSE(booted.ok());
  EXPECT_NE(booted.error().message().find("the test says no"), std::string::npos);
}

TEST_F(BootTest, ProgramsMustFitBelowTheEbda) {
  CdImage image;
  image.entry(1, 0, 0x9000, 0x100, 30);
  add_disk(cd(image), DiskKind::kCdrom);
  start();
  auto booted = bios_->boot(regs);
  ASSERT_FALSE(booted.ok());
  EXPECT_NE(booted.error().message().find("does not fit"), std::string::npos);
}

TEST_F(BootTest, LoadSegmentIsCanonical) {
  CdImage image;
  image.entry(1, 0, 0x1230, 4, 30);
  add_disk(cd(image), DiskKind::kCdrom);
  start();
  ASSERT_TRUE(bios_->boot(regs).ok());
  EXPECT_EQ(regs.cs, 0x1000);
  EXPECT_EQ(regs.ip, 0x2300);
}

}  // namespace
}  // namespace calf::firmware
