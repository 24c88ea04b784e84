#include "devices/legacy/rtc_cmos.h"

#include <algorithm>

namespace calf::devices {

namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr uint64_t kCrystalHz = 32768;
constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;
// Update in progress: 244 µs of warning and 1984 µs of update before the second changes.
constexpr nanoseconds kUpdateWindow = std::chrono::microseconds(2228);
// Coming out of divider reset, the first update is half a second away.
constexpr nanoseconds kHalfSecond = std::chrono::milliseconds(500);
// What the guest may set. The calendar arithmetic stays far from its limits, and so do 64 bits of
// nanoseconds.
constexpr int kFirstYear = 1970;
constexpr int kLastYear = 2200;

bool is_time_register(uint8_t index) {
  switch (index) {
    case RtcCmos::kSeconds:
    case RtcCmos::kMinutes:
    case RtcCmos::kHours:
    case RtcCmos::kDayOfWeek:
    case RtcCmos::kDayOfMonth:
    case RtcCmos::kMonth:
    case RtcCmos::kYear:
    case RtcCmos::kCentury:
      return true;
    default:
      return false;
  }
}

// Whether the clock goes with these values of registers A and B.
bool runs_with(uint8_t a, uint8_t b) {
  return (b & RtcCmos::kSet) == 0 && (a & RtcCmos::kDividerMask) < RtcCmos::kDividerReset;
}

uint64_t ticks_of(nanoseconds time) {
  auto ns = static_cast<uint64_t>(time.count());
  return ns / kNanosecondsPerSecond * kCrystalHz +
         ns % kNanosecondsPerSecond * kCrystalHz / kNanosecondsPerSecond;
}

// The earliest time at which ticks_of() is at least `ticks`.
nanoseconds time_of_ticks(uint64_t ticks) {
  uint64_t rest = ticks % kCrystalHz * kNanosecondsPerSecond;
  return seconds(ticks / kCrystalHz) + nanoseconds((rest + kCrystalHz - 1) / kCrystalHz);
}

seconds floor_seconds(nanoseconds time) {
  return std::chrono::floor<seconds>(time);
}

}  // namespace

RtcCmos::RtcCmos(IrqLine& irq, TimerFactory& timers, Clock& clock, nanoseconds offset)
    : irq_(irq), clock_(clock) {
  timer_ = timers.make_timer([this] {
    MutexLock lock(mutex_);
    armed_.reset();
    update_flags();
    arm_timer();
  });
  MutexLock lock(mutex_);
  state_.offset = offset;
  state_.ram[kRegisterA] = kDivider32768 | 6;  // 1024 Hz, as a BIOS leaves it
  state_.ram[kRegisterB] = k24Hour;
  state_.last_second = floor_seconds(now()).count();
  state_.last_period_ticks = tick_count();
}

void RtcCmos::reset() {
  MutexLock lock(mutex_);
  state_.ram[kRegisterB] &= static_cast<uint8_t>(
      ~(kPeriodicInterrupt | kAlarmInterrupt | kUpdateInterrupt | kSquareWave));
  state_.ram[kRegisterC] = 0;
  state_.index = 0;
  update_flags();
  arm_timer();
}

uint8_t RtcCmos::read_byte(uint64_t offset) {
  if (offset != 1) return 0xff;  // the index cannot be read
  MutexLock lock(mutex_);
  return read_register(state_.index);
}

void RtcCmos::write_byte(uint64_t offset, uint8_t value) {
  if (offset >= kWindow) return;
  MutexLock lock(mutex_);
  if (offset == 0) {
    state_.index = value % kSize;
  } else {
    write_register(state_.index, value);
  }
}

uint8_t RtcCmos::read_cmos(uint8_t index) {
  MutexLock lock(mutex_);
  return read_register(index % kSize);
}

void RtcCmos::write_cmos(uint8_t index, uint8_t value) {
  MutexLock lock(mutex_);
  write_register(index % kSize, value);
}

void RtcCmos::set_memory_size(uint64_t below_4g, uint64_t above_4g) {
  constexpr uint64_t kKib = 1024;
  constexpr uint64_t kMib = 1024 * kKib;
  constexpr uint64_t kBlock = 64 * kKib;
  MutexLock lock(mutex_);
  auto store = [this](uint8_t index, unsigned bytes, uint64_t value) CALF_REQUIRES(mutex_) {
    for (unsigned i = 0; i < bytes; ++i)
      state_.ram[index + i] = static_cast<uint8_t>(value >> (8 * i));
  };
  uint64_t above_1m = below_4g > kMib ? below_4g - kMib : 0;
  uint64_t above_16m = below_4g > 16 * kMib ? below_4g - 16 * kMib : 0;
  store(kBaseMemoryLow, 2, std::min(below_4g / kKib, uint64_t{640}));
  store(kExtendedMemoryLow, 2, std::min(above_1m / kKib, 63 * kMib / kKib));
  store(kExtendedMemory2Low, 2, std::min(above_1m / kKib, 63 * kMib / kKib));
  store(kMemoryAbove16MLow, 2, std::min(above_16m / kBlock, uint64_t{0xffff}));
  store(kMemoryAbove4GLow, 3, std::min(above_4g / kBlock, uint64_t{0xffffff}));
}

uint8_t RtcCmos::read_register(uint8_t index) {
  if (is_time_register(index)) {
    if (running()) store_time(now());
    return state_.ram[index];
  }
  switch (index) {
    case kRegisterA: {
      nanoseconds fraction = now() - floor_seconds(now());
      bool updating = running() && fraction >= seconds(1) - kUpdateWindow;
      return state_.ram[kRegisterA] | (updating ? kUpdateInProgress : 0);
    }
    case kRegisterC: {
      update_flags();
      uint8_t flags = state_.ram[kRegisterC];
      state_.ram[kRegisterC] = 0;
      update_irq();
      arm_timer();
      return flags;
    }
    case kRegisterD:
      return kValidRam;
    default:
      return state_.ram[index];
  }
}

void RtcCmos::write_register(uint8_t index, uint8_t value) {
  update_flags();
  bool was_running = running();
  if (is_time_register(index)) {
    // While the clock goes, a change of one register is a change of the time.
    if (was_running) stop_clock();
    state_.ram[index] = value;
    if (was_running) start_clock();
  } else if (index == kRegisterA || index == kRegisterB) {
    write_control(index, value);
  } else if (index != kRegisterC && index != kRegisterD) {
    state_.ram[index] = value;
  }
  update_flags();
  arm_timer();
}

void RtcCmos::write_control(uint8_t index, uint8_t value) {
  uint8_t a = state_.ram[kRegisterA];
  uint8_t b = state_.ram[kRegisterB];
  bool was_running = running();
  if (index == kRegisterA) {
    a = value & static_cast<uint8_t>(~kUpdateInProgress);
  } else {
    // SET turns the update interrupt off (data sheet, register B).
    b = (value & kSet) != 0 ? value & static_cast<uint8_t>(~kUpdateInterrupt) : value;
  }
  // When the clock stops, the time registers keep their bytes in the format of before; a change of
  // format alone does not touch the time.
  if (was_running && !runs_with(a, b)) stop_clock();
  bool leaves_divider_reset = !runs_with(state_.ram[kRegisterA], k24Hour) && runs_with(a, k24Hour);
  if (leaves_divider_reset) state_.fraction = kHalfSecond;
  state_.ram[kRegisterA] = a;
  state_.ram[kRegisterB] = b;
  if (!was_running && running()) start_clock();
}

bool RtcCmos::running() const {
  return runs_with(state_.ram[kRegisterA], state_.ram[kRegisterB]);
}

nanoseconds RtcCmos::now() const {
  return clock_.wall() + state_.offset;
}

void RtcCmos::stop_clock() {
  nanoseconds time = now();
  store_time(time);
  state_.fraction = time - floor_seconds(time);
}

void RtcCmos::start_clock() {
  state_.offset = load_time() + state_.fraction - clock_.wall();
  state_.last_second = floor_seconds(now()).count();
}

void RtcCmos::store_time(nanoseconds time) {
  using namespace std::chrono;
  auto since_epoch = floor_seconds(time);
  sys_days day{floor<days>(since_epoch)};
  year_month_day date{day};
  auto in_day = since_epoch - day.time_since_epoch();
  auto second_of_day = static_cast<unsigned>(in_day.count());
  auto year_number = static_cast<unsigned>(static_cast<int>(date.year()));
  state_.ram[kSeconds] = encode(second_of_day % 60);
  state_.ram[kMinutes] = encode(second_of_day / 60 % 60);
  state_.ram[kHours] = encode_hours(second_of_day / 3600);
  state_.ram[kDayOfWeek] = encode(weekday{day}.c_encoding() + 1);  // Sunday is 1
  state_.ram[kDayOfMonth] = encode(static_cast<unsigned>(date.day()));
  state_.ram[kMonth] = encode(static_cast<unsigned>(date.month()));
  state_.ram[kYear] = encode(year_number % 100);
  state_.ram[kCentury] = encode(year_number / 100);
}

// The registers may hold anything; a date that does not exist counts on into the next month. The
// day of the week follows from the date.
nanoseconds RtcCmos::load_time() const {
  using namespace std::chrono;
  int year_number =
      static_cast<int>(decode(state_.ram[kCentury]) * 100 + decode(state_.ram[kYear]));
  year_number = std::clamp(year_number, kFirstYear, kLastYear);
  unsigned month_number = std::clamp(decode(state_.ram[kMonth]), 1u, 12u);
  unsigned day_number = std::clamp(decode(state_.ram[kDayOfMonth]), 1u, 31u);
  sys_days first{year{year_number} / month{month_number} / 1};
  return first.time_since_epoch() + days(day_number - 1) + hours(decode_hours(state_.ram[kHours])) +
         minutes(decode(state_.ram[kMinutes])) + seconds(decode(state_.ram[kSeconds]));
}

uint8_t RtcCmos::encode(unsigned value) const {
  if ((state_.ram[kRegisterB] & kBinary) != 0) return static_cast<uint8_t>(value);
  return static_cast<uint8_t>(value / 10 % 10 << 4 | value % 10);
}

unsigned RtcCmos::decode(uint8_t value) const {
  if ((state_.ram[kRegisterB] & kBinary) != 0) return value;
  return (value >> 4) * 10u + value % 16u;
}

uint8_t RtcCmos::encode_hours(unsigned hours) const {
  if ((state_.ram[kRegisterB] & k24Hour) != 0) return encode(hours);
  unsigned half = hours % 12 == 0 ? 12 : hours % 12;
  return encode(half) | (hours >= 12 ? kAfternoonBit : 0);
}

unsigned RtcCmos::decode_hours(uint8_t value) const {
  if ((state_.ram[kRegisterB] & k24Hour) != 0) return decode(value);
  unsigned half = decode(value & static_cast<uint8_t>(~kAfternoonBit)) % 12;
  return half + ((value & kAfternoonBit) != 0 ? 12 : 0);
}

// The first second after `after_second` that the alarm matches; nothing if none ever does.
std::optional<int64_t> RtcCmos::next_alarm(int64_t after_second) const {
  auto wanted = [](uint8_t raw, unsigned value) -> std::optional<unsigned> {
    if (raw >= kAnyAlarm) return std::nullopt;
    return value;
  };
  uint8_t raw_hours = state_.ram[kHoursAlarm];
  auto hour = wanted(raw_hours, decode_hours(raw_hours));
  auto minute = wanted(state_.ram[kMinutesAlarm], decode(state_.ram[kMinutesAlarm]));
  auto second = wanted(state_.ram[kSecondsAlarm], decode(state_.ram[kSecondsAlarm]));
  if (hour.value_or(0) > 23 || minute.value_or(0) > 59 || second.value_or(0) > 59) return {};

  // Skips hours, then minutes, then seconds that do not match: at most 24 + 60 + 60 steps.
  int64_t t = after_second + 1;
  while (true) {
    auto of_day = static_cast<unsigned>(((t % 86400) + 86400) % 86400);
    if (hour && of_day / 3600 != *hour) {
      t += 3600 - of_day % 3600;
    } else if (minute && of_day / 60 % 60 != *minute) {
      t += 60 - of_day % 60;
    } else if (second && of_day % 60 != *second) {
      ++t;
    } else {
      return t;
    }
  }
}

// 0: no periodic interrupt selected.
uint64_t RtcCmos::period_ticks() const {
  unsigned rate = state_.ram[kRegisterA] & kRateMask;
  if (rate == 0) return 0;
  if (rate <= 2) rate += 7;  // 256 and 128 Hz have two codes each
  return uint64_t{1} << (rate - 1);
}

uint64_t RtcCmos::tick_count() const {
  return ticks_of(clock_.monotonic());
}

void RtcCmos::update_flags() {
  uint8_t& flags = state_.ram[kRegisterC];
  if (running()) {
    int64_t second = floor_seconds(now()).count();
    if (second != state_.last_second) {  // less, if the host's clock was set back
      flags |= kUpdateFlag;
      auto alarm = next_alarm(state_.last_second);
      if (alarm && *alarm <= second) flags |= kAlarmFlag;
    }
    state_.last_second = second;
  }
  uint64_t ticks = tick_count();
  if (uint64_t period = period_ticks(); period != 0) {
    if (ticks / period != state_.last_period_ticks / period) flags |= kPeriodicFlag;
  }
  state_.last_period_ticks = ticks;
  update_irq();
}

void RtcCmos::update_irq() {
  uint8_t& flags = state_.ram[kRegisterC];
  bool level = (flags & state_.ram[kRegisterB] & kFlags) != 0;
  flags = static_cast<uint8_t>((flags & kFlags) | (level ? kInterruptRequest : 0));
  if (level != irq_level_) irq_.set_level(level);
  irq_level_ = level;
}

// For the next event that would raise the line; an event that is already pending needs none.
void RtcCmos::arm_timer() {
  uint8_t missing = state_.ram[kRegisterB] & ~state_.ram[kRegisterC] & kFlags;
  nanoseconds monotonic = clock_.monotonic();
  nanoseconds time = now();
  std::optional<nanoseconds> deadline;
  auto consider = [&deadline](nanoseconds candidate) {
    if (!deadline || candidate < *deadline) deadline = candidate;
  };
  if (running()) {
    int64_t second = floor_seconds(time).count();
    if ((missing & kUpdateInterrupt) != 0) consider(monotonic + seconds(second + 1) - time);
    if ((missing & kAlarmInterrupt) != 0) {
      if (auto alarm = next_alarm(second)) consider(monotonic + seconds(*alarm) - time);
    }
  }
  if (uint64_t period = period_ticks(); (missing & kPeriodicInterrupt) != 0 && period != 0) {
    consider(time_of_ticks((tick_count() / period + 1) * period));
  }
  if (deadline == armed_) return;
  armed_ = deadline;
  if (deadline) {
    timer_->arm(*deadline);
  } else {
    timer_->disarm();
  }
}

}  // namespace calf::devices
