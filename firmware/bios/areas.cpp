#include "firmware/bios/areas.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "firmware/bios/stubs.h"
#include "firmware/memory_map.h"
#include "firmware/platform.h"

namespace calf::firmware {
namespace {

using devices::Gpa;
using devices::GuestMemory;

constexpr std::array<uint8_t, 11> kDisketteTable{
    0xDF,  // step rate, head unload time
    0x02,  // head load time, DMA
    0x25,  // motor off after ticks
    0x02,  // 512 bytes per sector
    0x12,  // sectors per track
    0x1B,  // gap length
    0xFF,  // data length
    0x6C,  // gap length for formatting
    0xF6,  // fill byte
    0x0F,  // head settle time
    0x08,  // motor start time
};

constexpr std::array<uint8_t, 10> kConfigTable{
    8,    0,     // bytes that follow
    0xFC,        // model: AT
    0,    0,     // submodel, revision
    0x74,        // second PIC, RTC, INT 15h 4Fh is called, EBDA
    0x40,        // INT 16h 09h
    0,    0, 0,  // nothing more
};

constexpr uint8_t kModelAt = 0xFC;

constexpr uint16_t kEquipmentFpu = 1u << 1;
constexpr uint16_t kEquipmentColour80 = 2u << 4;
constexpr unsigned kEquipmentComShift = 9;

void write_segment(std::span<uint8_t> segment) {
  // Everything but the place of other tables' entry points.
  uint64_t free_start = kEntryPointArea.offset - kBiosSegment.offset;
  uint64_t free_end = free_start + kEntryPointArea.length;
  std::fill_n(segment.begin(), free_start, uint8_t{0});
  std::fill(segment.begin() + static_cast<ptrdiff_t>(free_end), segment.end(), uint8_t{0});
  write_code(segment);
  auto put = [&](uint16_t offset, auto&& bytes) {
    std::copy(std::begin(bytes), std::end(bytes), segment.begin() + offset);
  };
  put(kConfigTableOffset, kConfigTable);
  put(kDisketteTableOffset, kDisketteTable);
  put(kResetOffset + 5, std::string_view("01/01/99"));  // the form that guests parse
  segment[kResetOffset + 14] = kModelAt;
}

struct FarPointer {
  le16 offset;
  le16 segment;
};

std::array<FarPointer, 256> vectors() {
  std::array<FarPointer, 256> table;
  for (unsigned n = 0; n < table.size(); ++n) {
    // Vectors for programs: software takes zero for "free".
    bool unused = n >= 0x60 && n < 0x68;
    if (!unused) table[n] = {vector_offset(static_cast<uint8_t>(n)), kBiosSegmentSelector};
  }
  // Not code but tables.
  table[0x1D] = {kFontOffset, kBiosSegmentSelector};
  table[0x1E] = {kDisketteTableOffset, kBiosSegmentSelector};
  table[0x1F] = {kFontOffset, kBiosSegmentSelector};
  table[0x41] = {kFixedDiskTableOffset, kBiosSegmentSelector};
  table[0x43] = {kFontOffset, kBiosSegmentSelector};
  table[0x46] = {kFixedDiskTableOffset, kBiosSegmentSelector};
  return table;
}

bool serial_port_exists(devices::Bus& ports, uint16_t base) {
  constexpr uint16_t kScratch = 7;
  uint8_t value = 0;
  return ports.read(base + kScratch, {&value, 1});
}

void write_data_area(const RealMemory& memory, devices::Bus& ports, const MachineFacts& facts) {
  unsigned com_ports = 0;
  for (const IsaPort& port : kSerialPorts) {
    if (!serial_port_exists(ports, port.port)) continue;
    memory.set_word(bda::kComPorts + 2 * com_ports, port.port);
    memory.set_byte(bda::kComTimeouts + com_ports, 10);
    ++com_ports;
  }
  memory.set_word(bda::kEbdaSegmentWord, kEbdaSegment);
  memory.set_word(bda::kEquipment, static_cast<uint16_t>(kEquipmentFpu | kEquipmentColour80 |
                                                         com_ports << kEquipmentComShift));
  memory.set_word(bda::kBaseMemory, kBaseMemoryKiB);

  memory.set_word(bda::kKeyHead, kKeyRingStartOffset);
  memory.set_word(bda::kKeyTail, kKeyRingStartOffset);
  memory.set_word(bda::kKeyRingStart, kKeyRingStartOffset);
  memory.set_word(bda::kKeyRingEnd, kKeyRingEndOffset);
  memory.set_byte(bda::kKeyboardType, 0x10);  // 101 keys

  memory.set_byte(bda::kVideoMode, 3);
  memory.set_word(bda::kVideoColumns, 80);
  memory.set_word(bda::kVideoPageSize, 0x1000);
  memory.set_word(bda::kCursorShape, 0x0607);
  memory.set_word(bda::kCrtcPort, 0x3D4);
  memory.set_byte(bda::kVideoLastRow, 24);
  memory.set_word(bda::kCharacterHeight, 16);

  memory.set_byte(bda::kDiskCount, static_cast<uint8_t>(facts.hard_disks));
  memory.set_dword(bda::kTicks, facts.ticks);
}

}  // namespace

Result<void> write_areas(const GuestMemory& memory, devices::Bus& ports,
                         const MachineFacts& facts) {
  auto segment = memory.translate(Gpa{kBiosSegment.offset}, kBiosSegment.length);
  auto low = memory.translate(Gpa{0}, kBda.end());
  auto ebda = memory.translate(Gpa{kEbdaBios.offset}, kEbdaBios.length);
  if (!segment || !low || !ebda) {
    return make_error(ErrorKind::kInvalid,
                      "The BIOS needs memory at 0-{:#x}, {:#x}-{:#x} and {:#x}-{:#x}, each range "
                      "in one piece",
                      kBda.end(), kEbdaBios.offset, kEbdaBios.end(), kBiosSegment.offset,
                      kBiosSegment.end());
  }
  write_segment(*segment);
  std::fill(low->begin(), low->end(), uint8_t{0});
  std::fill(ebda->begin(), ebda->end(), uint8_t{0});
  auto table = vectors();
  std::memcpy(low->data(), table.data(), sizeof table);
  (*ebda)[0] = static_cast<uint8_t>(kEbda.length / 1024);
  write_data_area(RealMemory(memory), ports, facts);
  return {};
}

}  // namespace calf::firmware
