// The places of low memory and of segment F000 that guests know by number.
//
//   0:0      interrupt vectors            F000:E05B  power-on entry (a jump there resets)
//   40:0     BIOS data area               F000:E401  fixed disk parameter table (empty)
//   9FC0:0   extended BIOS data area      F000:E6F5  system configuration table, INT 15h C0
//                                         F000:EFC7  diskette parameter table
//                                         F000:F100  stubs, one per vector, and those behind them
//                                         F000:FA6E  font (blank)
//                                         F000:FEA5  timer interrupt
//                                         F000:FF53  a bare iret
//                                         F000:FFF0  reset vector, date, model byte
//
// The addresses are those of the IBM PC AT, where software has relied on them since.
#pragma once

#include <cstdint>

#include "block/base/result.h"
#include "devices/core/bus.h"
#include "devices/core/guest_memory.h"

namespace calf::firmware {

inline constexpr uint16_t kBiosSegmentSelector = 0xF000;
inline constexpr uint16_t kEbdaSegment = 0x9FC0;
inline constexpr uint16_t kBaseMemoryKiB = 639;

// Offsets in segment F000.
inline constexpr uint16_t kPostOffset = 0xE05B;
inline constexpr uint16_t kFixedDiskTableOffset = 0xE401;
inline constexpr uint16_t kConfigTableOffset = 0xE6F5;
inline constexpr uint16_t kIrqCodeOffset = 0xE800;
inline constexpr uint16_t kDisketteTableOffset = 0xEFC7;
inline constexpr uint16_t kStubsOffset = 0xF100;
inline constexpr uint16_t kFontOffset = 0xFA6E;
inline constexpr uint16_t kTimerCodeOffset = 0xFEA5;
inline constexpr uint16_t kIretOffset = 0xFF53;
inline constexpr uint16_t kHaltOffset = 0xFF60;
inline constexpr uint16_t kResetOffset = 0xFFF0;

// Fields of the BIOS data area.
namespace bda {
using devices::Gpa;
inline constexpr Gpa kComPorts{0x400};  // four words
inline constexpr Gpa kEbdaSegmentWord{0x40E};
inline constexpr Gpa kEquipment{0x410};
inline constexpr Gpa kBaseMemory{0x413};  // KiB
inline constexpr Gpa kShiftFlags{0x417};
inline constexpr Gpa kKeyHead{0x41A};  // offsets in segment 40h
inline constexpr Gpa kKeyTail{0x41C};
inline constexpr Gpa kKeyRing{0x41E};  // 16 words
inline constexpr Gpa kDisketteStatus{0x441};
inline constexpr Gpa kVideoMode{0x449};
inline constexpr Gpa kVideoColumns{0x44A};
inline constexpr Gpa kVideoPageSize{0x44C};
inline constexpr Gpa kCursorPositions{0x450};  // eight pages: column, row
inline constexpr Gpa kCursorShape{0x460};
inline constexpr Gpa kActivePage{0x462};
inline constexpr Gpa kCrtcPort{0x463};
inline constexpr Gpa kTicks{0x46C};
inline constexpr Gpa kMidnight{0x470};
inline constexpr Gpa kDiskStatus{0x474};
inline constexpr Gpa kDiskCount{0x475};
inline constexpr Gpa kComTimeouts{0x47C};  // four bytes, seconds
inline constexpr Gpa kKeyRingStart{0x480};
inline constexpr Gpa kKeyRingEnd{0x482};
inline constexpr Gpa kVideoLastRow{0x484};
inline constexpr Gpa kCharacterHeight{0x485};
inline constexpr Gpa kKeyboardType{0x496};
inline constexpr Gpa kWaitFlag{0x498};    // far pointer to the byte that INT 15h 83h sets
inline constexpr Gpa kWaitCount{0x49C};   // microseconds
inline constexpr Gpa kWaitActive{0x4A0};  // bit 0
}  // namespace bda

inline constexpr uint16_t kKeyRingStartOffset = 0x1E;
inline constexpr uint16_t kKeyRingEndOffset = 0x3E;

// What varies of the data area.
struct MachineFacts {
  unsigned hard_disks = 0;
  uint32_t ticks = 0;  // since midnight
};

// Writes all of the areas through the host's view of memory. `ports` is probed for serial ports.
// kInvalid if an area is not there.
Result<void> write_areas(const devices::GuestMemory& memory, devices::Bus& ports,
                         const MachineFacts& facts);

}  // namespace calf::firmware
