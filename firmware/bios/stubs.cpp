#include "firmware/bios/stubs.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "firmware/bios/areas.h"
#include "firmware/bios/bios.h"

namespace calf::firmware {
namespace {

constexpr uint8_t kPort = kTrapPort;
constexpr uint16_t kOutSize = 2;

// Offsets within a stub.
constexpr uint16_t kStubSize = 8;
constexpr uint16_t kFirstOut = 0;
constexpr uint16_t kWaitEntry = 3;
constexpr uint16_t kRepeatOut = 5;

constexpr std::array<uint8_t, kStubSize> kStub{
    0xE6, kPort,  // out kTrapPort, al
    0xCF,         // iret
    0xFB,         // sti
    0xF4,         // hlt
    0xE6, kPort,  // out kTrapPort, al
    0xCF,         // iret
};

constexpr uint16_t kTimerOut = 44;
constexpr auto kTimerCode = std::to_array<uint8_t>({
    0x1E,                                                   // push ds
    0x50,                                                   // push ax
    0xB8, 0x40,  0x00,                                      // mov ax, 40h
    0x8E, 0xD8,                                             // mov ds, ax
    0x66, 0xFF,  0x06, 0x6C, 0x00,                          // inc dword [6Ch]
    0x66, 0x81,  0x3E, 0x6C, 0x00, 0xB0, 0x00, 0x18, 0x00,  // cmp dword [6Ch], 1800B0h
    0x72, 0x0E,                                             // jb +14
    0x66, 0xC7,  0x06, 0x6C, 0x00, 0x00, 0x00, 0x00, 0x00,  // mov dword [6Ch], 0
    0xC6, 0x06,  0x70, 0x00, 0x01,                          // mov byte [70h], 1
    0xF6, 0x06,  0xA0, 0x00, 0x01,                          // test byte [A0h], 1
    0x74, 0x02,                                             // jz +2
    0xE6, kPort,                                            // out kTrapPort, al
    0xCD, 0x1C,                                             // int 1Ch
    0xB0, 0x20,                                             // mov al, 20h
    0xE6, 0x20,                                             // out 20h, al
    0x58,                                                   // pop ax
    0x1F,                                                   // pop ds
    0xCF,                                                   // iret
});
static_assert(kTimerCode[kTimerOut] == 0xE6 && kTimerCode[kTimerOut + 1] == kPort);
static_assert(kTimerCodeOffset + kTimerCode.size() <= kIretOffset);

// The handlers of IRQ1 to IRQ15 stand in slots of this size.
constexpr uint16_t kIrqSlotSize = 32;

constexpr auto kKeyboardCode = std::to_array<uint8_t>({
    0x50,        // push ax
    0xE4, 0x60,  // in al, 60h
    0xB0, 0x20,  // mov al, 20h
    0xE6, 0x20,  // out 20h, al
    0x58,        // pop ax
    0xCF,        // iret
});

constexpr uint16_t kMasterOut = 18;
constexpr std::array<uint8_t, 21> master_code(unsigned irq) {
  return {
      0x50,                                   // push ax
      0xB0, 0x0B,                             // mov al, 0Bh       which are in service?
      0xE6, 0x20,                             // out 20h, al
      0xE4, 0x20,                             // in al, 20h
      0xA8, static_cast<uint8_t>(1u << irq),  // test al, bit
      0x74, 0x06,                             // jz +6             none: an exception
      0xB0, 0x20,                             // mov al, 20h
      0xE6, 0x20,                             // out 20h, al
      0x58,                                   // pop ax
      0xCF,                                   // iret
      0x58,                                   // pop ax
      0xE6, kPort,                            // out kTrapPort, al
      0xCF,                                   // iret
  };
}
static_assert(master_code(0)[kMasterOut] == 0xE6 && master_code(0)[kMasterOut + 1] == kPort);

constexpr auto kRtcCode = std::to_array<uint8_t>({
    0x50,        // push ax
    0xB0, 0x0C,  // mov al, 0Ch
    0xE6, 0x70,  // out 70h, al
    0xE4, 0x71,  // in al, 71h        what it was; lets the next one come
    0xA8, 0x20,  // test al, 20h
    0x74, 0x02,  // jz +2
    0xCD, 0x4A,  // int 4Ah           an alarm
    0xB0, 0x20,  // mov al, 20h
    0xE6, 0xA0,  // out A0h, al
    0xE6, 0x20,  // out 20h, al
    0x58,        // pop ax
    0xCF,        // iret
});

constexpr auto kSlaveCode = std::to_array<uint8_t>({
    0x50,        // push ax
    0xB0, 0x20,  // mov al, 20h
    0xE6, 0xA0,  // out A0h, al
    0xE6, 0x20,  // out 20h, al
    0x58,        // pop ax
    0xCF,        // iret
});

constexpr auto kPostCode = std::to_array<uint8_t>({
    0xE6, kPort,  // out kTrapPort, al
    0xFA,         // cli
    0xF4,         // hlt
    0xEB, 0xFC,   // jmp to the cli
});

constexpr auto kHaltCode = std::to_array<uint8_t>({
    0xFA,        // cli
    0xF4,        // hlt
    0xEB, 0xFC,  // jmp to the cli
});

constexpr auto kResetCode = std::to_array<uint8_t>({
    0xEA, kPostOffset & 0xFF, kPostOffset >> 8, 0x00, 0xF0,  // jmp F000:kPostOffset
});

constexpr unsigned kIrqs = 16;
constexpr uint16_t irq_offset(unsigned irq) {
  return static_cast<uint16_t>(irq == 0 ? kTimerCodeOffset : kIrqCodeOffset + irq * kIrqSlotSize);
}
static_assert(irq_offset(kIrqs) <= kDisketteTableOffset);

constexpr bool has_master_code(unsigned irq) {
  return irq >= 2 && irq < 8;
}

// The trap whose `out` stands at `offset`.
std::optional<Trap> trap_at(uint16_t offset) {
  if (offset >= kStubsOffset && offset < kStubsOffset + 256 * kStubSize) {
    auto vector = static_cast<uint8_t>((offset - kStubsOffset) / kStubSize);
    uint16_t within = (offset - kStubsOffset) % kStubSize;
    if (within != kFirstOut && within != kRepeatOut) return std::nullopt;
    return Trap{Trap::Kind::kService, vector, within == kRepeatOut, offset};
  }
  if (offset == kPostOffset) return Trap{Trap::Kind::kReset, 0, false, offset};
  if (offset == kTimerCodeOffset + kTimerOut) return Trap{Trap::Kind::kTick, 8, false, offset};
  for (unsigned irq = 0; irq < kIrqs; ++irq) {
    if (!has_master_code(irq) || offset != irq_offset(irq) + kMasterOut) continue;
    return Trap{Trap::Kind::kException, static_cast<uint8_t>(ChipSetup::kPicMasterBase + irq),
                false, offset};
  }
  return std::nullopt;
}

}  // namespace

std::optional<Trap> find_trap(uint16_t cs, uint16_t ip) {
  uint64_t address = raw(linear(cs, ip));
  if (!kBiosSegment.contains(address)) return std::nullopt;
  auto offset = static_cast<uint16_t>(address - kBiosSegment.offset);
  if (auto trap = trap_at(offset)) return trap;
  return offset < kOutSize ? std::nullopt : trap_at(static_cast<uint16_t>(offset - kOutSize));
}

void leave_trap(const Trap& trap, Flow flow, RealModeRegs& regs) {
  uint16_t target = static_cast<uint16_t>(trap.out_offset + kOutSize);
  auto stub = static_cast<uint16_t>(trap.out_offset - (trap.repeated ? kRepeatOut : kFirstOut));
  switch (flow) {
    case Flow::kReturn:
    case Flow::kReset:
      break;
    case Flow::kWait:
      assert(trap.kind == Trap::Kind::kService);
      target = static_cast<uint16_t>(stub + kWaitEntry);
      break;
    case Flow::kSpin:
      assert(trap.kind == Trap::Kind::kService);
      target = static_cast<uint16_t>(stub + kRepeatOut);
      regs.flags |= kFlagInterrupts;
      break;
    case Flow::kJump:
    case Flow::kNoBootDisk:
      return;
  }
  // CS stays what it is, for a guest that called through an alias of F000.
  auto base = static_cast<uint16_t>((kBiosSegmentSelector - regs.cs) * 16);
  regs.ip = static_cast<uint16_t>(base + target);
}

uint16_t vector_offset(uint8_t n) {
  switch (n) {
    case 0x1C:
    case 0x4A:
      return kIretOffset;  // hooks that are called often, and by nobody else
    default:
      break;
  }
  if (n >= ChipSetup::kPicMasterBase && n < ChipSetup::kPicMasterBase + 8) {
    return irq_offset(n - ChipSetup::kPicMasterBase);
  }
  if (n >= ChipSetup::kPicSlaveBase && n < ChipSetup::kPicSlaveBase + 8) {
    return irq_offset(n - ChipSetup::kPicSlaveBase + 8);
  }
  return static_cast<uint16_t>(kStubsOffset + n * kStubSize);
}

void write_code(std::span<uint8_t> segment) {
  assert(segment.size() == kBiosSegment.length);
  auto put = [&](uint16_t offset, std::span<const uint8_t> code) {
    std::copy(code.begin(), code.end(), segment.begin() + offset);
  };
  for (unsigned n = 0; n < 256; ++n)
    put(static_cast<uint16_t>(kStubsOffset + n * kStubSize), kStub);
  put(kTimerCodeOffset, kTimerCode);
  put(irq_offset(1), kKeyboardCode);
  for (unsigned irq = 0; irq < kIrqs; ++irq) {
    if (has_master_code(irq)) put(irq_offset(irq), master_code(irq));
    if (irq > 8) put(irq_offset(irq), kSlaveCode);
  }
  put(irq_offset(8), kRtcCode);
  put(kPostOffset, kPostCode);
  put(kHaltOffset, kHaltCode);
  put(kResetOffset, kResetCode);
  segment[kIretOffset] = 0xCF;
}

}  // namespace calf::firmware
