#include "firmware/smbios.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>

#include "block/base/endian.h"

namespace calf::firmware {
namespace {

using Bytes = std::vector<uint8_t>;
using testing::HasSubstr;
using testing::Not;

struct Placed {
  PlacedBytes structures, entry_points;
};

Placed place(const SmbiosConfig& config, SmbiosMachine machine, uint64_t ram) {
  auto map = MemoryMap::build(ram);
  EXPECT_TRUE(map.ok());
  TableArea structures(kTableArea), entry_points(kEntryPointArea);
  auto done = place_smbios(config, machine, *map, structures, entry_points);
  EXPECT_TRUE(done.ok()) << done.error().message();
  return {std::move(structures).take(), std::move(entry_points).take()};
}

uint8_t sum(const Bytes& bytes, size_t first, size_t count) {
  EXPECT_LE(first + count, bytes.size());
  auto from = bytes.begin() + static_cast<ptrdiff_t>(first);
  return static_cast<uint8_t>(std::accumulate(from, from + static_cast<ptrdiff_t>(count), 0u));
}

template <class T>
typename T::value_type number(const Bytes& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

TEST(Smbios, EntryPointsAreFoundAndSumToZero) {
  Placed placed = place({}, {}, 128 * kOneMiB);
  const Bytes& entries = placed.entry_points.bytes;
  EXPECT_EQ(raw(placed.entry_points.address), kEntryPointArea.offset);
  std::string text(entries.begin(), entries.end());
  size_t three = text.find("_SM3_"), two = text.find("_SM_");
  ASSERT_NE(three, text.npos);
  ASSERT_NE(two, text.npos);
  EXPECT_EQ(three % 16, 0u);
  EXPECT_EQ(two % 16, 0u);
  EXPECT_EQ(sum(entries, three, 24), 0);
  EXPECT_EQ(sum(entries, two, 31), 0);
  EXPECT_EQ(sum(entries, two + 16, 15), 0);
  uint64_t table = number<le64>(entries, three + 16);
  EXPECT_EQ(table, raw(placed.structures.address));
  EXPECT_EQ(number<le32>(entries, two + 24), table);
  EXPECT_EQ(number<le16>(entries, two + 22), placed.structures.bytes.size());
}

// Lengths of the formatted parts are what DSP0134 3.0 says, and the strings of each structure end
// with two zero bytes: a walk over the table arrives exactly at its end.
TEST(Smbios, StructuresAreWellFormed) {
  SmbiosConfig config;
  config.board.present = true;
  config.oem_strings = {"one", "two"};
  Placed placed = place(config, {.sockets = 2}, 20 * kOneGiB);
  const Bytes& table = placed.structures.bytes;
  std::vector<std::pair<int, int>> seen;
  size_t at = 0;
  while (at + 4 <= table.size()) {
    seen.emplace_back(table[at], table[at + 1]);
    at += table[at + 1];
    while (at + 1 < table.size() && (table[at] != 0 || table[at + 1] != 0))
      ++at;
    at += 2;
  }
  EXPECT_EQ(at, table.size());
  EXPECT_THAT(seen, testing::ElementsAre(
                        testing::Pair(0, 0x18), testing::Pair(1, 0x1B), testing::Pair(2, 0x0F),
                        testing::Pair(3, 0x16), testing::Pair(4, 0x30), testing::Pair(4, 0x30),
                        testing::Pair(11, 5), testing::Pair(16, 0x17), testing::Pair(17, 0x28),
                        testing::Pair(17, 0x28), testing::Pair(19, 0x1F), testing::Pair(19, 0x1F),
                        testing::Pair(32, 0x0B), testing::Pair(127, 4)));
}

// What dmidecode (another program's reading of the specification) says of our table.
std::string dmidecode(const Placed& placed) {
  std::string pattern = (std::filesystem::temp_directory_path() / "calf-dmi-XXXXXX").string();
  int fd = mkstemp(pattern.data());
  EXPECT_GE(fd, 0);
  close(fd);
  // Its dump format: an entry point that says where in the file the table is.
  Bytes dump(placed.entry_points.bytes.begin(), placed.entry_points.bytes.begin() + 24);
  le64 address(32);
  std::memcpy(&dump[16], &address, sizeof address);
  dump[5] = 0;
  dump[5] = checksum_of(dump);
  dump.resize(32);
  dump.insert(dump.end(), placed.structures.bytes.begin(), placed.structures.bytes.end());
  std::ofstream(pattern, std::ios::binary)
      .write(reinterpret_cast<const char*>(dump.data()), static_cast<std::streamsize>(dump.size()));
  std::string out;
  FILE* pipe = popen((CALF_DMIDECODE " --from-dump " + pattern + " 2>&1").c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  char buffer[4096];
  while (size_t got = fread(buffer, 1, sizeof buffer, pipe))
    out.append(buffer, got);
  EXPECT_EQ(pclose(pipe), 0) << out;
  std::filesystem::remove(pattern);
  return out;
}

TEST(Smbios, DmidecodeReadsIt) {
  if (std::string(CALF_DMIDECODE).empty())
    GTEST_SKIP() << "dmidecode (package dmidecode) is missing";
  SmbiosConfig config;
  ASSERT_TRUE(config.set(1, "serial", "ds=nocloud;h=guest").ok());
  ASSERT_TRUE(config.set(1, "uuid", "550e8400-e29b-41d4-a716-446655440000").ok());
  ASSERT_TRUE(config.set(0, "release", "3.7").ok());
  ASSERT_TRUE(config.set(2, "product", "Board").ok());
  ASSERT_TRUE(config.set(4, "max-speed", "3456").ok());
  ASSERT_TRUE(config.set(11, "value", "hello there").ok());
  std::string text =
      dmidecode(place(config, {.sockets = 2, .cores = 3, .threads = 2}, 20 * kOneGiB));
  EXPECT_THAT(text, HasSubstr("SMBIOS 3.0.0 present."));
  EXPECT_THAT(text, HasSubstr("Serial Number: ds=nocloud;h=guest"));
  EXPECT_THAT(text, HasSubstr("UUID: 550e8400-e29b-41d4-a716-446655440000"));
  EXPECT_THAT(text, HasSubstr("BIOS Revision: 3.7"));
  EXPECT_THAT(text, HasSubstr("System is a virtual machine"));
  EXPECT_THAT(text, HasSubstr("Product Name: Board"));
  EXPECT_THAT(text, HasSubstr("Max Speed: 3456 MHz"));
  EXPECT_THAT(text, HasSubstr("Core Count: 3"));
  EXPECT_THAT(text, HasSubstr("Thread Count: 6"));
  EXPECT_THAT(text, HasSubstr("String 1: hello there"));
  EXPECT_THAT(text, HasSubstr("Number Of Devices: 2"));
  EXPECT_THAT(text, HasSubstr("Size: 16 GB"));
  EXPECT_THAT(text, HasSubstr("Size: 4 GB"));
  EXPECT_THAT(text, HasSubstr("Status: No errors detected"));
  EXPECT_THAT(text, HasSubstr("End Of Table"));
  for (const char* complaint : {"TRUNCATED", "<BAD INDEX>", "OUT OF SPEC", "wrong", "Invalid"})
    EXPECT_THAT(text, Not(HasSubstr(complaint)));
}

TEST(SmbiosConfig, RefusesWhatItDoesNotKnow) {
  SmbiosConfig config;
  EXPECT_EQ(config.set(1, "colour", "red").error().kind(), ErrorKind::kUnsupported);
  EXPECT_EQ(config.set(8, "internal_reference", "x").error().kind(), ErrorKind::kUnsupported);
  EXPECT_EQ(config.set(4, "max-speed", "65536").error().kind(), ErrorKind::kInvalid);
  EXPECT_EQ(config.set(0, "uefi", "perhaps").error().kind(), ErrorKind::kInvalid);
  EXPECT_EQ(config.set(0, "release", "1").error().kind(), ErrorKind::kInvalid);
  EXPECT_EQ(config.set(1, "serial", std::string_view("a\0b", 3)).error().kind(),
            ErrorKind::kInvalid);
  EXPECT_FALSE(config.board.present);
}

TEST(SmbiosConfig, Uuid) {
  EXPECT_TRUE(parse_uuid("550e8400-e29b-41d4-a716-446655440000").ok());
  for (const char* bad :
       {"", "550e8400", "550e8400-e29b-41d4-a716-44665544000",
        "550e8400-e29b-41d4-a716-4466554400000", "550e8400xe29b-41d4-a716-446655440000",
        "550e8400-e29b-41d4-a716-44665544000g"})
    EXPECT_FALSE(parse_uuid(bad).ok()) << bad;
}

TEST(Smbios, TooManyOrTooLongStringsAreAnError) {
  auto map = MemoryMap::build(64 * kOneMiB);
  SmbiosConfig many;
  many.oem_strings.assign(256, "x");
  TableArea structures(kTableArea), entry_points(kEntryPointArea);
  EXPECT_EQ(place_smbios(many, {}, *map, structures, entry_points).error().kind(),
            ErrorKind::kInvalid);
  SmbiosConfig big;
  big.oem_strings.assign(1, std::string(70000, 'x'));
  EXPECT_EQ(place_smbios(big, {}, *map, structures, entry_points).error().kind(),
            ErrorKind::kResource);
}

}  // namespace
}  // namespace calf::firmware
