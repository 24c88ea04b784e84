#include "firmware/bios/time_service.h"

#include "firmware/bios/areas.h"
#include "firmware/bios/port_io.h"
#include "firmware/platform.h"

namespace calf::firmware {
namespace {

// Registers of the MC146818.
constexpr uint8_t kSeconds = 0x00;
constexpr uint8_t kSecondsAlarm = 0x01;
constexpr uint8_t kMinutes = 0x02;
constexpr uint8_t kMinutesAlarm = 0x03;
constexpr uint8_t kHours = 0x04;
constexpr uint8_t kHoursAlarm = 0x05;
constexpr uint8_t kDay = 0x07;
constexpr uint8_t kMonth = 0x08;
constexpr uint8_t kYear = 0x09;
constexpr uint8_t kStatusA = 0x0A;
constexpr uint8_t kStatusB = 0x0B;
constexpr uint8_t kCentury = 0x32;

constexpr uint8_t kUpdating = 0x80;  // of A
constexpr uint8_t kSet = 0x80;       // of B: the clock stands
constexpr uint8_t kAlarmEnable = 0x20;
constexpr uint8_t kBinary = 0x04;
constexpr uint8_t kHours24 = 0x02;
constexpr uint8_t kDaylightSaving = 0x01;
constexpr uint8_t kPm = 0x80;  // of the hours, when counting to 12

constexpr uint32_t kTicksPerDay = 0x1800B0;

constexpr uint8_t to_bcd(uint8_t value) {
  return static_cast<uint8_t>(value / 10 % 10 << 4 | value % 10);
}
constexpr uint8_t from_bcd(uint8_t value) {
  return static_cast<uint8_t>((value >> 4) * 10 + (value & 0x0F));
}

}  // namespace

bool TimeService::handle(Call& call) {
  RealModeRegs& regs = call.regs;
  switch (regs.ax.high()) {
    case 0x00: {
      uint32_t ticks = memory_.dword(bda::kTicks);
      regs.cx.set_word(ticks >> 16);
      regs.dx.set_word(ticks);
      regs.ax.set_word(memory_.byte(bda::kMidnight));
      memory_.set_byte(bda::kMidnight, 0);
      break;
    }
    case 0x01:
      memory_.set_dword(bda::kTicks, uint32_t{regs.cx.word()} << 16 | regs.dx.word());
      memory_.set_byte(bda::kMidnight, 0);
      regs.ax.set_high(0);
      break;
    case 0x02: {
      Time now = time();
      regs.cx.set_word(static_cast<uint32_t>(now.hours << 8 | now.minutes));
      regs.dx.set_word(
          static_cast<uint32_t>(now.seconds << 8 | (read(kStatusB) & kDaylightSaving)));
      regs.ax.set_word(now.hours);
      break;
    }
    case 0x03:
      set_running(false);
      write_bcd(kHours, regs.cx.high());
      write_bcd(kMinutes, regs.cx.low());
      write_bcd(kSeconds, regs.dx.high());
      set_running(true);
      regs.ax.set_high(0);
      break;
    case 0x04: {
      Date today = date();
      regs.cx.set_word(static_cast<uint32_t>(today.century << 8 | today.year));
      regs.dx.set_word(static_cast<uint32_t>(today.month << 8 | today.day));
      regs.ax.set_word(today.century);
      break;
    }
    case 0x05:
      set_running(false);
      write_bcd(kCentury, regs.cx.high());
      write_bcd(kYear, regs.cx.low());
      write_bcd(kMonth, regs.dx.high());
      write_bcd(kDay, regs.dx.low());
      set_running(true);
      regs.ax.set_high(0);
      break;
    case 0x06:
      call.set_carry(!set_alarm(regs));
      return true;
    case 0x07:
      write(kStatusB, static_cast<uint8_t>(read(kStatusB) & ~kAlarmEnable));
      break;
    default:
      return false;
  }
  call.set_carry(false);
  return true;
}

uint32_t TimeService::ticks_now() {
  Time now = time();
  uint32_t seconds =
      from_bcd(now.hours) * 3600u + from_bcd(now.minutes) * 60u + from_bcd(now.seconds);
  return static_cast<uint32_t>(uint64_t{seconds} * kTicksPerDay / 86400 % kTicksPerDay);
}

uint8_t TimeService::read(uint8_t index) {
  port_out<uint8_t>(ports_, kRtcPort, index);
  return port_in<uint8_t>(ports_, kRtcPort + 1);
}

void TimeService::write(uint8_t index, uint8_t value) {
  port_out<uint8_t>(ports_, kRtcPort, index);
  port_out<uint8_t>(ports_, kRtcPort + 1, value);
}

bool TimeService::uses_binary() {
  return (read(kStatusB) & kBinary) != 0;
}

uint8_t TimeService::read_bcd(uint8_t index) {
  uint8_t value = read(index);
  bool pm = false;
  bool twelve = index == kHours && !(read(kStatusB) & kHours24);
  if (twelve) {
    pm = (value & kPm) != 0;
    value = static_cast<uint8_t>(value & ~kPm);
  }
  uint8_t number = uses_binary() ? value : from_bcd(value);
  if (twelve) number = static_cast<uint8_t>(number % 12 + (pm ? 12 : 0));
  return to_bcd(number);
}

void TimeService::write_bcd(uint8_t index, uint8_t value) {
  uint8_t number = from_bcd(value);
  uint8_t pm = 0;
  if (index == kHours && !(read(kStatusB) & kHours24)) {
    pm = number >= 12 ? kPm : uint8_t{0};
    number = static_cast<uint8_t>(number % 12 == 0 ? 12 : number % 12);
  }
  uint8_t stored = uses_binary() ? number : to_bcd(number);
  write(index, static_cast<uint8_t>(stored | pm));
}

TimeService::Time TimeService::time() {
  // Read twice, as the clock may count between two registers. It cannot do so twice in a row.
  for (int attempt = 0;; ++attempt) {
    Time now{read_bcd(kHours), read_bcd(kMinutes), read_bcd(kSeconds)};
    bool settled = !(read(kStatusA) & kUpdating) && read_bcd(kSeconds) == now.seconds;
    if (settled || attempt == 2) return now;
  }
}

TimeService::Date TimeService::date() {
  for (int attempt = 0;; ++attempt) {
    Date now{read_bcd(kCentury), read_bcd(kYear), read_bcd(kMonth), read_bcd(kDay)};
    if (read_bcd(kDay) == now.day || attempt == 2) return now;
  }
}

void TimeService::set_running(bool running) {
  uint8_t b = read(kStatusB);
  write(kStatusB, static_cast<uint8_t>(running ? b & ~kSet : b | kSet));
}

// False if an alarm is set already.
bool TimeService::set_alarm(const RealModeRegs& regs) {
  uint8_t b = read(kStatusB);
  if (b & kAlarmEnable) return false;
  write_bcd(kHoursAlarm, regs.cx.high());
  write_bcd(kMinutesAlarm, regs.cx.low());
  write_bcd(kSecondsAlarm, regs.dx.high());
  write(kStatusB, b | kAlarmEnable);
  return true;
}

}  // namespace calf::firmware
