// The ACPI tables, read back by eye (fixed fields), by their checksums, and by iasl: each one is
// disassembled without a complaint, and what iasl compiles from that is the same bytes again.
#include "firmware/acpi/acpi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <string>

#include "firmware/acpi/aml.h"
#include "firmware/acpi/tables.h"
#include "firmware/memory_map.h"
#include "firmware/platform.h"

namespace calf::firmware::acpi {
namespace {

using Bytes = std::vector<uint8_t>;
using testing::HasSubstr;
using testing::Not;

DsdtConfig dsdt_config() {
  return {.pci_window64 = {0x240000000, 0x100000000}, .serial_ports = 0b0011, .pvpanic = true};
}

uint8_t sum(std::span<const uint8_t> bytes) {
  return static_cast<uint8_t>(std::accumulate(bytes.begin(), bytes.end(), 0u));
}

template <class T>
T object_at(std::span<const uint8_t> bytes, size_t offset) {
  T object;
  EXPECT_LE(offset + sizeof object, bytes.size());
  std::memcpy(&object, bytes.data() + offset, sizeof object);
  return object;
}

class Iasl : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string(CALF_IASL).empty()) GTEST_SKIP() << "iasl (package acpica-tools) is missing";
    std::string pattern = (std::filesystem::temp_directory_path() / "calf-acpi-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  // Runs iasl in the folder; returns what it said.
  std::string run(const std::string& arguments, int& status) {
    std::string log = folder_ / "log";
    std::string command =
        "cd '" + folder_.string() + "' && " CALF_IASL " " + arguments + " >log 2>&1";
    status = std::system(command.c_str());
    return slurp(log);
  }
  std::string slurp(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  // Source text of the table.
  std::string round_trip(const Bytes& table) {
    std::ofstream(folder_ / "t.aml", std::ios::binary)
        .write(reinterpret_cast<const char*>(table.data()),
               static_cast<std::streamsize>(table.size()));
    int status = 0;
    std::string said = run("-d t.aml", status);
    EXPECT_EQ(status, 0) << said;
    EXPECT_THAT(said, Not(HasSubstr("rror"))) << said;
    EXPECT_THAT(said, Not(HasSubstr("arning"))) << said;
    std::string source = slurp(folder_ / "t.dsl");
    EXPECT_THAT(source, Not(HasSubstr("rror")));
    EXPECT_THAT(source, Not(HasSubstr("arning")));

    said = run("-p again t.dsl", status);
    EXPECT_EQ(status, 0) << said;
    EXPECT_THAT(said, HasSubstr("0 Errors, 0 Warnings")) << said;
    std::string again = slurp(folder_ / "again.aml");
    EXPECT_TRUE(same_content(table, Bytes(again.begin(), again.end())));
    return source;
  }

  // Compiling puts iasl's name into the creator fields, and so changes the checksum.
  static bool same_content(Bytes a, Bytes b) {
    for (Bytes* table : {&a, &b}) {
      if (table->size() < sizeof(Header)) return false;
      (*table)[offsetof(Header, checksum)] = 0;
      std::fill_n(table->begin() + offsetof(Header, creator), 8, 0);
    }
    return a == b;
  }

  std::filesystem::path folder_;
};

TEST_F(Iasl, Dsdt) {
  std::string source = round_trip(make_dsdt(dsdt_config()));
  EXPECT_THAT(source, HasSubstr("0x0000000240000000"));  // window minimum
  EXPECT_THAT(source, HasSubstr("0x000000033FFFFFFF"));  // window maximum
  EXPECT_THAT(source, HasSubstr("Device (COM2)"));
  EXPECT_THAT(source, Not(HasSubstr("Device (COM3)")));
  EXPECT_THAT(source, HasSubstr("\"QEMU0001\""));
  EXPECT_THAT(source, HasSubstr("Name (_S5, Package (0x04)"));
}

TEST_F(Iasl, DsdtOfTheSmallestMachine) {
  std::string source = round_trip(
      make_dsdt({.pci_window64 = {kFourGiB, 4 * kOneGiB}, .pci_slots = 1, .serial_ports = 0}));
  EXPECT_THAT(source, Not(HasSubstr("QEMU0001")));
  EXPECT_THAT(source, Not(HasSubstr("PNP0501")));
}

TEST_F(Iasl, Fadt) {
  std::string source = round_trip(make_fadt(devices::Gpa{0x9FF00}, devices::Gpa{0xE0040}));
  EXPECT_THAT(source, HasSubstr("FACS Address : 0009FF00"));
  EXPECT_THAT(source, HasSubstr("PM1A Event Block Address : 00000600"));
}

TEST_F(Iasl, Madt) {
  std::vector<uint32_t> ids(300);
  std::iota(ids.begin(), ids.end(), 0);
  std::string source = round_trip(make_madt(ids));
  EXPECT_THAT(source, HasSubstr("Processor x2Apic ID : 0000012B"));
  EXPECT_THAT(source, HasSubstr("Interrupt Source Override"));
}

TEST_F(Iasl, Mcfg) {
  EXPECT_THAT(round_trip(make_mcfg()), HasSubstr("Base Address : 00000000E0000000"));
}

TEST(Aml, EncodesNumbersInTheShortestForm) {
  EXPECT_EQ(aml::integer(0), (Bytes{0}));
  EXPECT_EQ(aml::integer(1), (Bytes{1}));
  EXPECT_EQ(aml::integer(2), (Bytes{0x0A, 2}));
  EXPECT_EQ(aml::integer(0x1234), (Bytes{0x0B, 0x34, 0x12}));
  EXPECT_EQ(aml::integer(0x12345678), (Bytes{0x0C, 0x78, 0x56, 0x34, 0x12}));
  EXPECT_EQ(aml::integer(0x100000000).size(), 9u);
  EXPECT_EQ(aml::eisa_id("PNP0A03"), (Bytes{0x0C, 0x41, 0xD0, 0x0A, 0x03}));
}

TEST(Aml, PackageLengthCountsItself) {
  // One byte up to 63, two up to 4095.
  EXPECT_EQ(aml::scope("ABCD", std::vector<Bytes>{Bytes(58)})[1], 63);
  Bytes two = aml::scope("ABCD", std::vector<Bytes>{Bytes(59)});
  EXPECT_EQ(two[1], 0x40 | (65 & 0xF));
  EXPECT_EQ(two[2], 65 >> 4);
  EXPECT_EQ(two.size(), 66u);  // with the opcode
}

class Placed : public testing::Test {
 protected:
  void SetUp() override {
    AcpiConfig config{.apic_ids = {0, 1, 2, 3}, .dsdt = dsdt_config()};
    auto placed = place_acpi(config, area_);
    ASSERT_TRUE(placed.ok()) << placed.error().message();
    rsdp_ = placed->rsdp;
    facs_ = placed->facs;
    image_ = std::move(area_).take();
  }
  template <class T>
  T at(uint64_t address) {
    return object_at<T>(image_.bytes, address - raw(image_.address));
  }
  Bytes table_at(uint64_t address) {
    Header header = at<Header>(address);
    auto first = image_.bytes.begin() + static_cast<ptrdiff_t>(address - raw(image_.address));
    return {first, first + header.length.value()};
  }

  TableArea area_{kTableArea};
  PlacedBytes image_, facs_;
  devices::Gpa rsdp_{};
};

TEST_F(Placed, RsdpIsFoundByScanning) {
  EXPECT_EQ(raw(rsdp_) % 16, 0u);
  EXPECT_TRUE(kFirmwareArea.contains(raw(rsdp_)));
  auto rsdp = at<Rsdp>(raw(rsdp_));
  EXPECT_EQ(std::string(rsdp.signature.begin(), rsdp.signature.end()), "RSD PTR ");
  EXPECT_EQ(sum(bytes_of(rsdp).first(20)), 0);
  EXPECT_EQ(sum(bytes_of(rsdp)), 0);
  EXPECT_EQ(rsdp.revision, 2);
}

TEST_F(Placed, EveryTableIsReachedAndSumsToZero) {
  auto rsdp = at<Rsdp>(raw(rsdp_));
  Bytes xsdt = table_at(rsdp.xsdt);
  Bytes rsdt = table_at(rsdp.rsdt);
  EXPECT_EQ(sum(xsdt), 0);
  EXPECT_EQ(sum(rsdt), 0);
  ASSERT_EQ((xsdt.size() - sizeof(Header)) / 8, (rsdt.size() - sizeof(Header)) / 4);

  std::vector<std::string> seen;
  for (size_t i = 0; i < (xsdt.size() - sizeof(Header)) / 8; ++i) {
    uint64_t address = object_at<le64>(xsdt, sizeof(Header) + 8 * i);
    EXPECT_EQ(address, object_at<le32>(rsdt, sizeof(Header) + 4 * i));
    Bytes table = table_at(address);
    EXPECT_EQ(sum(table), 0);
    seen.emplace_back(table.begin(), table.begin() + 4);
  }
  EXPECT_THAT(seen, testing::ElementsAre("FACP", "APIC", "MCFG"));

  auto fadt = at<Fadt>(object_at<le64>(xsdt, sizeof(Header)));
  EXPECT_EQ(fadt.dsdt, fadt.x_dsdt);
  EXPECT_EQ(sum(table_at(fadt.dsdt)), 0);
  EXPECT_EQ(fadt.facs, raw(facs_.address));
}

TEST_F(Placed, FacsIsWritableMemoryOutsideTheReadOnlySlot) {
  EXPECT_EQ(raw(facs_.address) % 64, 0u);
  auto facs = object_at<Facs>(facs_.bytes, 0);
  EXPECT_EQ(facs.length, 64u);
  EXPECT_LT(raw(facs_.address) + facs_.bytes.size(), kVgaHole.offset + 1);
}

TEST(Acpi, TooManyProcessorsForTheAreaIsAnError) {
  AcpiConfig config{.apic_ids = std::vector<uint32_t>(20000), .dsdt = dsdt_config()};
  TableArea area(kTableArea);
  auto placed = place_acpi(config, area);
  ASSERT_FALSE(placed.ok());
  EXPECT_EQ(placed.error().kind(), ErrorKind::kResource);
  EXPECT_THAT(placed.error().message(), HasSubstr("MADT"));
}

}  // namespace
}  // namespace calf::firmware::acpi
