// All tables together in a guest's memory, and the MP table read back entry by entry.
#include "firmware/tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <numeric>
#include <string>

#include "block/base/endian.h"
#include "firmware/mptable.h"
#include "firmware/platform.h"

namespace calf::firmware {
namespace {

using Bytes = std::vector<uint8_t>;

template <class T>
typename T::value_type number(std::span<const uint8_t> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

class Tables : public testing::Test {
 protected:
  Tables() : rom_(kReadOnlyArea.length), low_(kVgaHole.offset) {
    memory_ = devices::GuestMemory(
        {{devices::Gpa{0}, low_, true}, {devices::Gpa{kReadOnlyArea.offset}, rom_, false}});
  }
  std::span<const uint8_t> at(uint64_t address, uint64_t length) {
    auto bytes = memory_.translate(devices::Gpa{address}, length);
    EXPECT_TRUE(bytes.has_value());
    return bytes.value_or(std::span<uint8_t>{});
  }
  // As a guest does it: the first 16-byte boundary with these bytes.
  uint64_t scan(std::string_view signature, uint64_t from, uint64_t to) {
    for (uint64_t address = from; address < to; address += 16) {
      auto bytes = at(address, signature.size());
      if (std::equal(bytes.begin(), bytes.end(), signature.begin())) return address;
    }
    return 0;
  }

  Bytes rom_, low_;
  devices::GuestMemory memory_;
};

TEST_F(Tables, AreFoundByScanning) {
  auto map = MemoryMap::build(64 * kOneMiB);
  TablesConfig config{.apic_ids = {0, 1}};
  auto tables = build_tables(config, *map);
  ASSERT_TRUE(tables.ok()) << tables.error().message();
  ASSERT_TRUE(tables->install(memory_).ok());
  EXPECT_EQ(scan("RSD PTR ", 0xE0000, 0x100000), raw(tables->rsdp));
  EXPECT_NE(scan("_SM3_", 0xF0000, 0x100000), 0u);
  EXPECT_NE(scan("_SM_", 0xF0000, 0x100000), 0u);
  EXPECT_NE(scan("_MP_", 0xF0000, 0x100000), 0u);
  EXPECT_EQ(std::string(low_.begin() + 0x9FF00, low_.begin() + 0x9FF04), "FACS");
}

TEST_F(Tables, SixtyFourProcessorsAndAllSlotsFit) {
  auto map = MemoryMap::build(64 * kOneMiB);
  TablesConfig config;
  config.apic_ids.resize(64);
  std::iota(config.apic_ids.begin(), config.apic_ids.end(), 0);
  config.topology.sockets = 64;
  EXPECT_TRUE(build_tables(config, *map).ok());
}

TEST_F(Tables, InstallWithoutMemoryIsAnError) {
  auto map = MemoryMap::build(64 * kOneMiB);
  auto tables = build_tables({.apic_ids = {0}}, *map);
  EXPECT_FALSE(tables->install(devices::GuestMemory()).ok());
}

TEST_F(Tables, MpTable) {
  TableArea tables(kTableArea), entry_points(kEntryPointArea);
  std::vector<uint32_t> ids = {0, 1, 4, 300};
  ASSERT_TRUE(place_mptable(ids, 3, tables, entry_points).ok());
  PlacedBytes table = std::move(tables).take(), pointer = std::move(entry_points).take();
  auto sum = [](const Bytes& b) {
    return static_cast<uint8_t>(std::accumulate(b.begin(), b.end(), 0u));
  };
  EXPECT_EQ(sum(table.bytes), 0);
  EXPECT_EQ(sum(pointer.bytes), 0);
  EXPECT_EQ(number<le32>(pointer.bytes, 4), raw(table.address));
  ASSERT_EQ(number<le16>(table.bytes, 4), table.bytes.size());

  std::vector<int> processors;
  std::map<int, int> isa_pins, pci_pins;
  int buses = 0, ioapics = 0, local = 0;
  size_t position = 44, entries = 0;
  for (; position < table.bytes.size(); ++entries) {
    const uint8_t* entry = &table.bytes[position];
    switch (entry[0]) {
      case 0:
        processors.push_back(entry[1]);
        EXPECT_EQ(entry[3], processors.size() == 1 ? 3 : 1);
        break;
      case 1:
        ++buses;
        break;
      case 2:
        ++ioapics;
        EXPECT_EQ(number<le32>(table.bytes, position + 4), kIoapic.offset);
        break;
      case 3:
        (entry[4] == 1 ? isa_pins : pci_pins)[entry[5]] = entry[7];
        break;
      case 4:
        ++local;
        break;
      default:
        FAIL() << "entry type " << int{entry[0]};
    }
    position += entry[0] == 0 ? 20 : 8;
  }
  EXPECT_EQ(position, table.bytes.size());
  EXPECT_EQ(entries, number<le16>(table.bytes, 34));
  EXPECT_THAT(processors, testing::ElementsAre(0, 1, 4));
  EXPECT_EQ(buses, 2);
  EXPECT_EQ(ioapics, 1);
  EXPECT_EQ(local, 2);
  EXPECT_EQ(isa_pins[0], 2);
  EXPECT_EQ(isa_pins[4], 4);
  EXPECT_EQ(isa_pins.count(2), 0u);
  EXPECT_EQ(pci_pins.size(), 12u);
  EXPECT_EQ(pci_pins[2 << 2 | 1], pci_intx_line(2, 1));
}

}  // namespace
}  // namespace calf::firmware
