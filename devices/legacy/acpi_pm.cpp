#include "devices/legacy/acpi_pm.h"

namespace calf::devices {

namespace {

constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr unsigned kCarryBit = 31;

uint8_t byte_of(uint16_t value, uint64_t index) {
  return static_cast<uint8_t>(value >> (8 * index));
}

void set_byte_of(uint16_t& target, uint64_t index, uint8_t value) {
  unsigned shift = static_cast<unsigned>(8 * index);
  target = static_cast<uint16_t>((target & ~(0xff << shift)) | value << shift);
}

void clear_ones(uint16_t& status, uint64_t index, uint8_t ones) {
  status = static_cast<uint16_t>(status & ~(ones << (8 * index)));
}

}  // namespace

AcpiPm::AcpiPm(MachineControl& machine, IrqLine& sci, TimerFactory& timers, Clock& clock)
    : machine_(machine), sci_(sci), clock_(clock) {
  timer_ = timers.make_timer([this] {
    MutexLock lock(mutex_);
    timer_armed_ = false;
    update();
  });
  reset();
}

void AcpiPm::reset() {
  MutexLock lock(mutex_);
  state_ = State{};
  state_.carries_seen = ticks() >> kCarryBit;
  update();
}

void AcpiPm::press_power_button() {
  MutexLock lock(mutex_);
  state_.pm1_status |= kPowerButton;
  update();
}

void AcpiPm::raise_gpe(unsigned number) {
  if (number >= 16) return;
  MutexLock lock(mutex_);
  state_.gpe0_status = static_cast<uint16_t>(state_.gpe0_status | 1u << number);
  update();
}

uint64_t AcpiPm::ticks() {
  auto now = static_cast<uint64_t>(clock_.monotonic().count());
  // Seconds and the rest apart: the product of both would not fit.
  return now / kNanosecondsPerSecond * kTimerHz +
         now % kNanosecondsPerSecond * kTimerHz / kNanosecondsPerSecond;
}

void AcpiPm::read(uint64_t offset, std::span<uint8_t> data) {
  MutexLock lock(mutex_);
  update();
  auto timer = static_cast<uint32_t>(ticks());  // one reading for all bytes of an access
  for (uint8_t& byte : data)
    byte = read_byte(offset++, timer);
}

void AcpiPm::write(uint64_t offset, std::span<const uint8_t> data) {
  Request request = Request::kNone;
  {
    MutexLock lock(mutex_);
    update();
    for (uint8_t byte : data) {
      Request wanted = write_byte(offset++, byte);
      if (wanted != Request::kNone) request = wanted;
    }
    update();
  }
  if (request == Request::kReset) machine_.request_reset(ResetReason::kAcpi);
  if (request == Request::kPowerOff) machine_.request_power_off();
}

uint8_t AcpiPm::read_byte(uint64_t offset, uint32_t timer) {
  switch (offset) {
    case kPm1Status:
    case kPm1Status + 1:
      return byte_of(state_.pm1_status, offset - kPm1Status);
    case kPm1Enable:
    case kPm1Enable + 1:
      return byte_of(state_.pm1_enable, offset - kPm1Enable);
    case kPm1Control:
    case kPm1Control + 1:
      return byte_of(state_.pm1_control, offset - kPm1Control);
    case kPmTimer:
    case kPmTimer + 1:
    case kPmTimer + 2:
    case kPmTimer + 3:
      return static_cast<uint8_t>(timer >> (8 * (offset - kPmTimer)));
    case kReset:
      return 0;
    case kGpe0Status:
    case kGpe0Status + 1:
      return byte_of(state_.gpe0_status, offset - kGpe0Status);
    case kGpe0Enable:
    case kGpe0Enable + 1:
      return byte_of(state_.gpe0_enable, offset - kGpe0Enable);
    default:
      return 0xff;
  }
}

AcpiPm::Request AcpiPm::write_byte(uint64_t offset, uint8_t value) {
  switch (offset) {
    case kPm1Status:
    case kPm1Status + 1:
      clear_ones(state_.pm1_status, offset - kPm1Status, value);
      return Request::kNone;
    case kPm1Enable:
    case kPm1Enable + 1:
      set_byte_of(state_.pm1_enable, offset - kPm1Enable, value);
      state_.pm1_enable &= kPm1Events;
      return Request::kNone;
    case kPm1Control:
      state_.pm1_control = static_cast<uint16_t>((state_.pm1_control & ~kBusMasterReload) |
                                                 kSciEnable | (value & kBusMasterReload));
      return Request::kNone;
    case kPm1Control + 1:
      return write_control_high(value);
    case kReset:
      return value == kResetValue ? Request::kReset : Request::kNone;
    case kGpe0Status:
    case kGpe0Status + 1:
      clear_ones(state_.gpe0_status, offset - kGpe0Status, value);
      return Request::kNone;
    case kGpe0Enable:
    case kGpe0Enable + 1:
      set_byte_of(state_.gpe0_enable, offset - kGpe0Enable, value);
      return Request::kNone;
    default:
      return Request::kNone;
  }
}

AcpiPm::Request AcpiPm::write_control_high(uint8_t value) {
  uint16_t wide = static_cast<uint16_t>(value << 8);
  state_.pm1_control =
      static_cast<uint16_t>((state_.pm1_control & ~kSleepTypeMask) | (wide & kSleepTypeMask));
  if ((wide & kSleepEnable) == 0) return Request::kNone;
  if ((wide & kSleepTypeMask) >> kSleepTypeShift == kSleepTypeS5) return Request::kPowerOff;
  // A sleep state that the tables do not offer: wake at once.
  state_.pm1_status |= kWake;
  return Request::kNone;
}

// Brings the timer's carry up to date, then the interrupt line, then the alarm for the next carry.
void AcpiPm::update() {
  uint64_t now = ticks();
  uint64_t carries = now >> kCarryBit;
  if (carries != state_.carries_seen) state_.pm1_status |= kTimerCarry;
  state_.carries_seen = carries;

  bool level = (state_.pm1_status & state_.pm1_enable & kPm1Events) != 0 ||
               (state_.gpe0_status & state_.gpe0_enable) != 0;
  if (level != sci_level_) sci_.set_level(level);
  sci_level_ = level;

  bool wants_carry =
      (state_.pm1_enable & kTimerCarry) != 0 && (state_.pm1_status & kTimerCarry) == 0;
  if (wants_carry == timer_armed_) return;
  timer_armed_ = wants_carry;
  if (!wants_carry) {
    timer_->disarm();
    return;
  }
  uint64_t left = ((carries + 1) << kCarryBit) - now;
  // One tick more than needed, so that rounding cannot let it fire before the carry.
  auto wait = std::chrono::nanoseconds((left + 1) * kNanosecondsPerSecond / kTimerHz);
  timer_->arm(clock_.monotonic() + wait);
}

}  // namespace calf::devices
