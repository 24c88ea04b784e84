#include "firmware/bios/system_service.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "firmware/bios/areas.h"
#include "firmware/bios/port_io.h"
#include "firmware/platform.h"

namespace calf::firmware {
namespace {

using devices::Gpa;

constexpr uint32_t kSmap = 0x534D4150;  // "SMAP"
constexpr uint64_t kKiB = 1024;
constexpr uint64_t kSixteenMiB = 16 * kOneMiB;

uint64_t ram_from_one_mib(std::span<const E820Entry> e820) {
  uint64_t end = kOneMiB;
  for (const E820Entry& entry : e820) {
    if (entry.kind() == E820Type::kRam && entry.range().contains(end)) end = entry.range().end();
  }
  return end - kOneMiB;
}

std::chrono::microseconds microseconds_of(const RealModeRegs& regs) {
  return std::chrono::microseconds(uint32_t{regs.cx.word()} << 16 | regs.dx.word());
}

}  // namespace

SystemService::SystemService(std::span<const E820Entry> e820, devices::Bus& ports,
                             devices::Clock& clock, Deadlines& deadlines, const RealMemory& memory)
    : e820_(e820),
      ports_(ports),
      clock_(clock),
      deadlines_(deadlines),
      memory_(memory),
      extended_memory_(ram_from_one_mib(e820)) {}

bool SystemService::handle(Call& call) {
  constexpr uint64_t kMost88 = 63 * kOneMiB;
  RealModeRegs& regs = call.regs;
  switch (regs.ax.high()) {
    case 0x24:
      return a20(call);
    case 0x4F:  // a key was typed: handle it as it is
      call.set_carry(true);
      return true;
    case 0x52:  // may the medium be ejected?
    case 0xEC:  // the guest says in which mode it will run
      call.succeed();
      return true;
    case 0x80:  // device open, close, program end, key SysReq, device busy and done
    case 0x81:
    case 0x82:
    case 0x85:
    case 0x90:
    case 0x91:
      call.succeed();
      return true;
    case 0x83:
      event_wait(call);
      return true;
    case 0x86:
      wait(call);
      return true;
    case 0x87:
      block_move(call);
      return true;
    case 0x88:
      regs.ax.set_word(static_cast<uint32_t>(std::min(extended_memory_, kMost88) / kKiB));
      call.set_carry(false);
      return true;
    case 0xC0:
      regs.es = kBiosSegmentSelector;
      regs.bx.set_word(kConfigTableOffset);
      call.succeed();
      return true;
    case 0xC1:
      regs.es = kEbdaSegment;
      call.set_carry(false);
      return true;
    case 0xE8:
      switch (regs.ax.low()) {
        case 0x01:
          memory_above_16m(call, false);
          return true;
        case 0x81:
          memory_above_16m(call, true);
          return true;
        case 0x20:
          memory_map(call);
          return true;
        default:
          return false;
      }
    default:
      return false;
  }
}

void SystemService::tick() {
  if (!event_ || clock_.monotonic() < *event_) return;
  constexpr uint8_t kPosted = 0x80;
  event_.reset();
  Gpa flag = linear(memory_.word(bda::kWaitFlag + 2), memory_.word(bda::kWaitFlag));
  memory_.set_byte(flag, memory_.byte(flag) | kPosted);
  memory_.set_byte(bda::kWaitActive, 0);
}

// The gate of port 92h. No address line is masked whatever it says.
bool SystemService::a20(Call& call) {
  constexpr uint8_t kGate = 0x02;
  constexpr uint8_t kResetBit = 0x01;
  RealModeRegs& regs = call.regs;
  auto value = port_in<uint8_t>(ports_, kFastResetPort);
  auto set = [&](bool open) {
    auto changed = static_cast<uint8_t>(open ? value | kGate : value & ~kGate);
    port_out<uint8_t>(ports_, kFastResetPort, static_cast<uint8_t>(changed & ~kResetBit));
    call.succeed();
  };
  switch (regs.ax.low()) {
    case 0x00:
      set(false);
      return true;
    case 0x01:
      set(true);
      return true;
    case 0x02:
      regs.ax.set_low(value & kGate ? 1 : 0);
      call.succeed();
      return true;
    case 0x03:
      regs.bx.set_word(3);  // keyboard controller and port 92h
      call.succeed();
      return true;
    default:
      return false;
  }
}

// A byte of the caller's is marked when the time is over; the call returns at once.
void SystemService::event_wait(Call& call) {
  constexpr uint8_t kBusy = 0x83;
  RealModeRegs& regs = call.regs;
  if (regs.ax.low() == 1) {  // cancel
    event_.reset();
    memory_.set_byte(bda::kWaitActive, 0);
    return call.succeed();
  }
  if (event_) return call.fail(kBusy);
  auto time = microseconds_of(regs);
  event_ = clock_.monotonic() + time;
  memory_.set_word(bda::kWaitFlag, regs.bx.word());
  memory_.set_word(bda::kWaitFlag + 2, regs.es);
  memory_.set_dword(bda::kWaitCount, static_cast<uint32_t>(time.count()));
  memory_.set_byte(bda::kWaitActive, 1);
  call.succeed();
}

void SystemService::wait(Call& call) {
  auto rest = deadlines_.left(call, microseconds_of(call.regs));
  if (rest <= rest.zero()) return call.succeed();
  call.flow = Deadlines::flow_for(rest);
}

// CX words between two addresses of 32 bits, given by descriptors at ES:SI.
void SystemService::block_move(Call& call) {
  constexpr uint32_t kMaxWords = 0x8000;
  constexpr uint8_t kException = 0x02;
  struct Descriptor {
    le16 limit;
    le16 base_low;
    uint8_t base_middle;
    uint8_t access;
    uint8_t flags;
    uint8_t base_high;

    Gpa base() const {
      return Gpa{base_low.value() | uint32_t{base_middle} << 16 | uint32_t{base_high} << 24};
    }
  };
  static_assert(sizeof(Descriptor) == 8);
  RealModeRegs& regs = call.regs;
  Gpa table = linear(regs.es, regs.si.word());
  std::array<Descriptor, 4> descriptors;  // null, the table itself, source, destination
  uint32_t words = regs.cx.word();
  if (words > kMaxWords || !memory_.read_object(table, descriptors)) return call.fail(kException);
  std::vector<uint8_t> bytes(words * 2);
  if (words > 0 && (!memory_.read(descriptors[2].base(), bytes) ||
                    !memory_.write(descriptors[3].base(), bytes))) {
    return call.fail(kException);
  }
  call.set_caller_flag(kFlagZero, true);
  call.succeed();
}

void SystemService::memory_map(Call& call) {
  constexpr uint32_t kShort = sizeof(E820Entry);
  constexpr uint32_t kLong = kShort + 4;  // ACPI 3.0: with attributes
  constexpr uint32_t kPresent = 1;
  RealModeRegs& regs = call.regs;
  uint32_t index = regs.bx.all();
  if (regs.dx.all() != kSmap || regs.cx.all() < kShort || index >= e820_.size()) {
    return call.fail(kUnsupportedFunction);
  }
  struct {
    E820Entry entry;
    le32 attributes;
  } answer{e820_[index], kPresent};
  static_assert(sizeof answer == kLong);
  uint32_t size = regs.cx.all() >= kLong ? kLong : kShort;
  std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(&answer), size);
  if (!memory_.write(linear(regs.es, regs.di.word()), bytes)) {
    return call.fail(kUnsupportedFunction);
  }
  regs.ax.set_all(kSmap);
  regs.cx.set_all(size);
  regs.bx.set_all(index + 1 < e820_.size() ? index + 1 : 0);
  call.set_carry(false);
}

void SystemService::memory_above_16m(Call& call, bool wide) {
  constexpr uint64_t kBlock = 64 * kKiB;
  RealModeRegs& regs = call.regs;
  uint64_t below = std::min(extended_memory_, kSixteenMiB - kOneMiB);
  uint64_t above = extended_memory_ - below;
  auto kib = static_cast<uint32_t>(below / kKiB);
  auto blocks = static_cast<uint32_t>(std::min<uint64_t>(above / kBlock, 0xFFFF));
  for (Register* r : {&regs.ax, &regs.cx})
    wide ? r->set_all(kib) : r->set_word(kib);
  for (Register* r : {&regs.bx, &regs.dx})
    wide ? r->set_all(blocks) : r->set_word(blocks);
  call.set_carry(false);
}

}  // namespace calf::firmware
