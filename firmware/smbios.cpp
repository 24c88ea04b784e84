#include "firmware/smbios.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "block/base/endian.h"

namespace calf::firmware {
namespace {

using devices::Gpa;

// DSP0134 5.2.1, the 32-bit entry point.
struct EntryPoint2 {
  std::array<char, 4> anchor{'_', 'S', 'M', '_'};                    //  0
  uint8_t checksum = 0;                                              //  4 of all
  uint8_t length = 0x1F;                                             //  5
  uint8_t major = 2, minor = 8;                                      //  6
  le16 largest_structure;                                            //  8
  uint8_t revision = 0;                                              // 10
  std::array<uint8_t, 5> formatted{};                                // 11
  std::array<char, 5> intermediate_anchor{'_', 'D', 'M', 'I', '_'};  // 16
  uint8_t intermediate_checksum = 0;                                 // 21 from 16 on
  le16 table_length;                                                 // 22
  le32 table;                                                        // 24
  le16 structure_count;                                              // 28
  uint8_t bcd_revision = 0x28;                                       // 30
};
static_assert(sizeof(EntryPoint2) == 31);

// 5.2.2, the 64-bit entry point.
struct EntryPoint3 {
  std::array<char, 5> anchor{'_', 'S', 'M', '3', '_'};  //  0
  uint8_t checksum = 0;                                 //  5
  uint8_t length = 0x18;                                //  6
  uint8_t major = 3, minor = 0, docrev = 0;             //  7
  uint8_t revision = 1;                                 // 10
  uint8_t reserved = 0;
  le32 table_limit;  // 12
  le64 table;        // 16
};
static_assert(sizeof(EntryPoint3) == 24);

// Structures are named by a number of ours; these are QEMU's.
enum Handle : uint16_t {
  kBios = 0x000,
  kSystem = 0x100,
  kBoard = 0x200,
  kChassis = 0x300,
  kProcessor = 0x400,
  kOemStrings = 0xE00,
  kMemoryArray = 0x1000,
  kMemoryDevice = 0x1100,
  kMemoryMapped = 0x1300,
  kBootStatus = 0x2000,
  kEnd = 0x7F00,
  kNone = 0xFFFE,
};

class StructureTable {
 public:
  // Starts a structure; the calls up to finish() append its fields in order.
  StructureTable& begin(uint8_t type, unsigned handle) {
    start_ = bytes_.size();
    strings_.clear();
    return byte(type).byte(0).word(static_cast<uint16_t>(handle));
  }
  StructureTable& byte(uint8_t value) {
    bytes_.push_back(value);
    return *this;
  }
  StructureTable& word(uint16_t value) { return raw_bytes(bytes_of(le16(value))); }
  StructureTable& dword(uint32_t value) { return raw_bytes(bytes_of(le32(value))); }
  StructureTable& qword(uint64_t value) { return raw_bytes(bytes_of(le64(value))); }
  StructureTable& raw_bytes(std::span<const uint8_t> more) {
    bytes_.insert(bytes_.end(), more.begin(), more.end());
    return *this;
  }
  // The number of the string; 0 for an empty one.
  StructureTable& text(std::string_view value) {
    if (value.empty()) return byte(0);
    strings_.emplace_back(value);
    return byte(static_cast<uint8_t>(strings_.size()));
  }
  void finish() {
    assert(bytes_.size() - start_ <= UINT8_MAX);
    bytes_[start_ + 1] = static_cast<uint8_t>(bytes_.size() - start_);
    for (const std::string& string : strings_) {
      bytes_.insert(bytes_.end(), string.begin(), string.end());
      bytes_.push_back(0);
    }
    if (strings_.empty()) bytes_.push_back(0);
    bytes_.push_back(0);
    largest_ = std::max(largest_, bytes_.size() - start_);
    ++count_;
  }
  // A string of the current structure that no field refers to by number.
  void add_string(std::string_view value) { strings_.emplace_back(value); }

  std::span<const uint8_t> bytes() const { return bytes_; }
  size_t largest() const { return largest_; }
  uint16_t count() const { return count_; }

 private:
  std::vector<uint8_t> bytes_;
  std::vector<std::string> strings_;
  size_t start_ = 0;
  size_t largest_ = 0;
  uint16_t count_ = 0;
};

void add_bios(StructureTable& table, const SmbiosConfig::Bios& bios) {
  constexpr uint64_t kCharacteristicsUnsupported = 1 << 3;
  constexpr uint8_t kUefi = 1 << 3, kVirtualMachine = 1 << 4;
  table.begin(0, kBios).text(bios.vendor).text(bios.version);
  table.word(0xE800);             // start segment
  table.text(bios.date).byte(0);  // ROM size: 64 KiB
  table.qword(kCharacteristicsUnsupported);
  table.byte(0).byte(bios.uefi ? kVirtualMachine | kUefi : kVirtualMachine);
  table.byte(bios.major).byte(bios.minor).byte(0xFF).byte(0xFF);  // no embedded controller
  table.finish();
}

void add_system(StructureTable& table, const SmbiosConfig::System& system) {
  // The first three fields of a UUID are little-endian here (7.2.1).
  std::array<uint8_t, 16> uuid = system.uuid;
  std::reverse(uuid.begin(), uuid.begin() + 4);
  std::reverse(uuid.begin() + 4, uuid.begin() + 6);
  std::reverse(uuid.begin() + 6, uuid.begin() + 8);
  constexpr uint8_t kWokenByPowerSwitch = 6;
  table.begin(1, kSystem).text(system.manufacturer).text(system.product).text(system.version);
  table.text(system.serial).raw_bytes(uuid).byte(kWokenByPowerSwitch);
  table.text(system.sku).text(system.family).finish();
}

void add_board(StructureTable& table, const SmbiosConfig::Board& board) {
  constexpr uint8_t kHosting = 1, kMotherboard = 0x0A;
  table.begin(2, kBoard).text(board.manufacturer).text(board.product).text(board.version);
  table.text(board.serial).text(board.asset).byte(kHosting).text(board.location);
  table.word(kChassis).byte(kMotherboard).byte(0);
  table.finish();
}

void add_chassis(StructureTable& table, const SmbiosConfig::Chassis& chassis) {
  constexpr uint8_t kOther = 1, kSafe = 3, kUnknown = 2;
  table.begin(3, kChassis).text(chassis.manufacturer).byte(kOther).text(chassis.version);
  table.text(chassis.serial).text(chassis.asset);
  table.byte(kSafe).byte(kSafe).byte(kSafe).byte(kUnknown);  // boot, power, thermal, security
  table.dword(0).byte(0).byte(0).byte(0).byte(0);  // OEM, height, cords, contained elements
  table.text(chassis.sku).finish();
}

void add_processor(StructureTable& table, const SmbiosConfig::Processor& processor,
                   const SmbiosMachine& machine, unsigned socket) {
  constexpr uint8_t kCentral = 3, kOther = 1, kUnknown = 2, kPopulatedEnabled = 0x41;
  constexpr uint16_t kNoCache = 0xFFFF;
  unsigned threads = machine.cores * machine.threads;
  auto capped = [](unsigned n) { return static_cast<uint8_t>(std::min(n, 0xFFu)); };
  table.begin(4, kProcessor + socket);
  table.text(fmt::format("{} {}", processor.socket_prefix, socket));
  table.byte(kCentral).byte(kOther).text(processor.manufacturer);
  table.qword(0).text(processor.version);  // CPUID: guests ask the processor
  table.byte(0).word(0);                   // voltage, external clock
  table.word(processor.max_speed).word(processor.current_speed);
  table.byte(kPopulatedEnabled).byte(kOther);  // status, upgrade
  table.word(kNoCache).word(kNoCache).word(kNoCache);
  table.text(processor.serial).text(processor.asset).text(processor.part);
  table.byte(capped(machine.cores)).byte(capped(machine.cores)).byte(capped(threads));
  table.word(kUnknown).word(kOther);  // characteristics, family 2
  table.word(static_cast<uint16_t>(machine.cores)).word(static_cast<uint16_t>(machine.cores));
  table.word(static_cast<uint16_t>(threads)).finish();
}

void add_memory(StructureTable& table, const SmbiosConfig::Memory& memory, const MemoryMap& map) {
  constexpr uint8_t kOther = 1, kUnknown = 2, kSystemMemory = 3, kMultiBitEcc = 6, kDimm = 9;
  constexpr uint8_t kRamType = 7;
  constexpr uint64_t kDeviceSize = 16 * kOneGiB;
  constexpr uint32_t kSeeExtended = 0x80000000;
  constexpr uint64_t kKiB = 1024;

  uint64_t devices = div_round_up(map.ram_size(), kDeviceSize);
  uint64_t kilobytes = map.ram_size() / kKiB;
  table.begin(16, kMemoryArray).byte(kOther).byte(kSystemMemory).byte(kMultiBitEcc);
  bool extended = kilobytes >= kSeeExtended;
  table.dword(extended ? kSeeExtended : static_cast<uint32_t>(kilobytes));
  table.word(kNone).word(static_cast<uint16_t>(devices));
  table.qword(extended ? map.ram_size() : 0).finish();

  for (uint64_t i = 0; i < devices; ++i) {
    uint64_t bytes = std::min(kDeviceSize, map.ram_size() - i * kDeviceSize);
    uint16_t megabytes = static_cast<uint16_t>(div_round_up(bytes, kOneMiB));  // at most 16384
    table.begin(17, kMemoryDevice + static_cast<unsigned>(i)).word(kMemoryArray).word(kNone);
    table.word(0xFFFF).word(0xFFFF).word(megabytes).byte(kDimm).byte(0);  // widths, size, form, set
    table.text(fmt::format("{} {}", memory.locator_prefix, i)).text(memory.bank);
    table.byte(kRamType).word(kUnknown).word(memory.speed).text(memory.manufacturer);
    table.text(memory.serial).text(memory.asset).text(memory.part).byte(0);  // rank
    table.dword(0).word(memory.speed).word(0).word(0).word(0);  // extended size, clock, voltages
    table.finish();
  }

  unsigned ranges = 0;
  auto add_range = [&](uint64_t start, uint64_t length) {
    if (length == 0) return;
    uint64_t first = start / kKiB, last = (start + length) / kKiB - 1;
    bool wide = last >= 0xFFFFFFFF;
    table.begin(19, kMemoryMapped + ranges++);
    table.dword(wide ? 0xFFFFFFFF : static_cast<uint32_t>(first));
    table.dword(wide ? 0xFFFFFFFF : static_cast<uint32_t>(last));
    table.word(kMemoryArray).byte(1);
    table.qword(wide ? start : 0).qword(wide ? start + length - 1 : 0).finish();
  };
  add_range(0, map.ram_below_4g());
  add_range(kFourGiB, map.ram_above_4g());
}

StructureTable make_table(const SmbiosConfig& config, const SmbiosMachine& machine,
                          const MemoryMap& map) {
  StructureTable table;
  add_bios(table, config.bios);
  add_system(table, config.system);
  if (config.board.present) add_board(table, config.board);
  add_chassis(table, config.chassis);
  for (unsigned socket = 0; socket < machine.sockets; ++socket) {
    add_processor(table, config.processor, machine, socket);
  }
  if (!config.oem_strings.empty()) {
    table.begin(11, kOemStrings).byte(static_cast<uint8_t>(config.oem_strings.size()));
    for (const std::string& string : config.oem_strings)
      table.add_string(string);
    table.finish();
  }
  add_memory(table, config.memory, map);
  table.begin(32, kBootStatus).raw_bytes(std::array<uint8_t, 7>{}).finish();  // no error
  table.begin(127, kEnd).finish();
  return table;
}

}  // namespace

Result<void> place_smbios(const SmbiosConfig& config, const SmbiosMachine& machine,
                          const MemoryMap& map, TableArea& structures, TableArea& entry_points) {
  if (config.oem_strings.size() > UINT8_MAX) {
    return make_error(ErrorKind::kInvalid, "-smbios type=11: {} values, at most 255 are possible",
                      config.oem_strings.size());
  }
  StructureTable table = make_table(config, machine, map);
  TRY(Gpa address, structures.place("SMBIOS structures", table.bytes()));

  EntryPoint3 entry3;
  entry3.table_limit = static_cast<uint32_t>(table.bytes().size());
  entry3.table = raw(address);
  entry3.checksum = checksum_of(bytes_of(entry3));
  TRY_VOID(entry_points.place("SMBIOS 3 entry point", bytes_of(entry3)));

  EntryPoint2 entry2;
  entry2.largest_structure = static_cast<uint16_t>(table.largest());
  entry2.table_length = static_cast<uint16_t>(table.bytes().size());
  entry2.table = static_cast<uint32_t>(raw(address));
  entry2.structure_count = table.count();
  entry2.intermediate_checksum = checksum_of(bytes_of(entry2).subspan(16));
  entry2.checksum = checksum_of(bytes_of(entry2));
  TRY_VOID(entry_points.place("SMBIOS entry point", bytes_of(entry2)));
  return {};
}

}  // namespace calf::firmware
