#include "devices/legacy/uart16550.h"

#include <algorithm>

namespace calf::devices {

namespace {

// Receiver trigger levels by FCR bits 7:6.
constexpr size_t kTriggerLevels[] = {1, 4, 8, 14};

// MSR's delta bits for a change of its upper half. RI counts only when it goes away.
uint8_t modem_deltas(uint8_t before, uint8_t after) {
  uint8_t changed = before ^ after;
  uint8_t deltas = (changed >> 4) & (Uart::kMsrDeltaCts | Uart::kMsrDeltaDsr | Uart::kMsrDeltaDcd);
  if ((before & Uart::kMsrRi) != 0 && (after & Uart::kMsrRi) == 0) {
    deltas |= Uart::kMsrTrailingEdgeRi;
  }
  return deltas;
}

}  // namespace

Uart16550::Uart16550(ByteChannel& channel, IrqLine& irq, TimerFactory& timers, Clock& clock)
    : channel_(channel), irq_(irq), output_(channel, timers, clock, [this] { on_output_room(); }) {
  channel_.set_receiver([this](std::span<const uint8_t> bytes) { return receive(bytes); });
}

void Uart16550::reset() {
  MutexLock lock(mutex_);
  state_ = State{};
  refill_fifo();
  update_irq();
}

uint8_t Uart16550::read_byte(uint64_t offset) {
  if (offset >= kWindow) return 0xff;
  uint8_t value = 0;
  bool ready = false;
  {
    MutexLock lock(mutex_);
    value = read_register(static_cast<Uart::Read>(offset));
    update_irq();
    ready = take_receiver_ready();
  }
  if (ready) channel_.receiver_ready();
  return value;
}

void Uart16550::write_byte(uint64_t offset, uint8_t value) {
  if (offset >= kWindow) return;
  bool ready = false;
  {
    MutexLock lock(mutex_);
    write_register(static_cast<Uart::Write>(offset), value);
    update_irq();
    ready = take_receiver_ready();
  }
  if (ready) channel_.receiver_ready();
}

uint8_t Uart16550::read_register(Uart::Read reg) {
  bool latch = (state_.lcr & Uart::kLcrDivisorLatchAccess) != 0;
  switch (reg) {
    case Uart::kReceiverBuffer:
      return latch ? static_cast<uint8_t>(state_.divisor) : read_receiver_buffer();
    case Uart::kInterruptEnableRead:
      return latch ? static_cast<uint8_t>(state_.divisor >> 8) : state_.ier;
    case Uart::kInterruptIdentification:
      return read_interrupt_identification();
    case Uart::kLineControlRead:
      return state_.lcr;
    case Uart::kModemControlRead:
      return state_.mcr;
    case Uart::kLineStatus:
      return read_line_status();
    case Uart::kModemStatus:
      return read_modem_status();
    case Uart::kScratchRead:
      return state_.scr;
  }
  return 0xff;
}

void Uart16550::write_register(Uart::Write reg, uint8_t value) {
  bool latch = (state_.lcr & Uart::kLcrDivisorLatchAccess) != 0;
  switch (reg) {
    case Uart::kTransmitterHolding:
      if (latch) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0xff00) | value);
      } else {
        write_transmitter(value);
      }
      return;
    case Uart::kInterruptEnable:
      if (latch) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0x00ff) | value << 8);
      } else {
        write_interrupt_enable(value);
      }
      return;
    case Uart::kFifoControl:
      write_fifo_control(value);
      return;
    case Uart::kLineControl: {
      bool break_starts = (value & ~state_.lcr & Uart::kLcrSetBreak) != 0;
      state_.lcr = value;
      if (break_starts && loopback()) push_looped_back(0, Uart::kLsrBreak | Uart::kLsrFraming);
      return;
    }
    case Uart::kModemControl:
      write_modem_control(value);
      return;
    case Uart::kScratch:
      state_.scr = value;
      return;
    case Uart::kLineStatusWrite:
    case Uart::kModemStatusWrite:
      return;
  }
}

uint8_t Uart16550::read_receiver_buffer() {
  if (state_.fifo.empty()) return 0;
  uint8_t byte = state_.fifo.front().byte;
  state_.fifo.pop_front();
  refill_fifo();
  return byte;
}

uint8_t Uart16550::read_interrupt_identification() {
  uint8_t id = pending_interrupt();
  // Reading is the acknowledgement, but only for the source that is shown.
  if (id == Uart::kIirTransmitterEmpty) state_.thre_interrupt = false;
  return fifo_enabled() ? id | Uart::kIirFifosEnabled : id;
}

uint8_t Uart16550::read_line_status() {
  uint8_t status = state_.overrun;
  state_.overrun = 0;
  bool error_in_fifo = std::any_of(state_.fifo.begin(), state_.fifo.end(),
                                   [](const Received& r) { return r.errors != 0; });
  if (error_in_fifo && fifo_enabled()) status |= Uart::kLsrErrorInFifo;
  if (!state_.fifo.empty()) {
    status |= Uart::kLsrDataReady | state_.fifo.front().errors;
    state_.fifo.front().errors = 0;
  }
  if (loopback() || output_.has_room()) {
    // Both: a kernel's console waits for TEMT after each character, and must not wait for a reader
    // that is merely slow.
    status |= Uart::kLsrTransmitterHoldingEmpty | Uart::kLsrTransmitterEmpty;
  }
  return status;
}

uint8_t Uart16550::read_modem_status() {
  uint8_t status = modem_lines() | state_.msr_deltas;
  state_.msr_deltas = 0;
  return status;
}

void Uart16550::write_transmitter(uint8_t value) {
  state_.thre_interrupt = false;
  if (loopback()) {
    push_looped_back(value, 0);
  } else {
    output_.put(value);
    if (observer_) observer_(value);
  }
  // The byte is on its way at once, so the register is empty again.
  if (loopback() || output_.has_room()) state_.thre_interrupt = true;
}

void Uart16550::write_interrupt_enable(uint8_t value) {
  uint8_t enabled = value & ~state_.ier;
  state_.ier = value & Uart::kIerImplemented;
  // Enabling the interrupt while the transmitter is empty raises it at once; Linux tests for this
  // and falls back to polling by a timer where it does not happen.
  if ((enabled & Uart::kIerTransmitterEmpty) != 0 && (loopback() || output_.has_room())) {
    state_.thre_interrupt = true;
  }
}

void Uart16550::write_fifo_control(uint8_t value) {
  bool was_enabled = fifo_enabled();
  bool enabled = (value & Uart::kFcrEnable) != 0;
  if (enabled != was_enabled || (value & Uart::kFcrResetReceiver) != 0) state_.fifo.clear();
  // The transmitter's FIFO is never seen full or half sent, so its reset has nothing to clear. The
  // other bits count only together with the enable bit.
  state_.fcr = enabled ? value & ~(Uart::kFcrResetReceiver | Uart::kFcrResetTransmitter) : 0;
  refill_fifo();
}

void Uart16550::write_modem_control(uint8_t value) {
  uint8_t before = modem_lines();
  state_.mcr = value & Uart::kMcrImplemented;
  state_.msr_deltas |= modem_deltas(before, modem_lines());
  refill_fifo();
}

bool Uart16550::fifo_enabled() const {
  return (state_.fcr & Uart::kFcrEnable) != 0;
}

bool Uart16550::loopback() const {
  return (state_.mcr & Uart::kMcrLoop) != 0;
}

size_t Uart16550::fifo_depth() const {
  return fifo_enabled() ? kFifoDepth : 1;
}

size_t Uart16550::trigger_level() const {
  return fifo_enabled() ? kTriggerLevels[state_.fcr >> Uart::kFcrTriggerShift] : 1;
}

uint8_t Uart16550::modem_lines() const {
  if (!loopback()) return Uart::kMsrCts | Uart::kMsrDsr | Uart::kMsrDcd;  // somebody is there
  uint8_t lines = 0;
  if ((state_.mcr & Uart::kMcrRts) != 0) lines |= Uart::kMsrCts;
  if ((state_.mcr & Uart::kMcrDtr) != 0) lines |= Uart::kMsrDsr;
  if ((state_.mcr & Uart::kMcrOut1) != 0) lines |= Uart::kMsrRi;
  if ((state_.mcr & Uart::kMcrOut2) != 0) lines |= Uart::kMsrDcd;
  return lines;
}

// The source of highest priority that is enabled (data sheet, table IV).
uint8_t Uart16550::pending_interrupt() const {
  bool line_error =
      state_.overrun != 0 || (!state_.fifo.empty() && state_.fifo.front().errors != 0);
  if ((state_.ier & Uart::kIerLineStatus) != 0 && line_error) return Uart::kIirLineStatus;
  if ((state_.ier & Uart::kIerReceivedData) != 0 && !state_.fifo.empty()) {
    return state_.fifo.size() >= trigger_level() ? Uart::kIirReceivedData
                                                 : Uart::kIirCharacterTimeout;
  }
  if ((state_.ier & Uart::kIerTransmitterEmpty) != 0 && state_.thre_interrupt) {
    return Uart::kIirTransmitterEmpty;
  }
  if ((state_.ier & Uart::kIerModemStatus) != 0 && state_.msr_deltas != 0) {
    return Uart::kIirModemStatus;
  }
  return Uart::kIirNone;
}

void Uart16550::push_looped_back(uint8_t byte, uint8_t errors) {
  if (state_.fifo.size() >= fifo_depth()) {
    state_.overrun = Uart::kLsrOverrun;
    return;
  }
  state_.fifo.push_back({byte, errors});
}

// The line is cut off while the chip talks to itself.
void Uart16550::refill_fifo() {
  if (loopback()) return;
  while (state_.fifo.size() < fifo_depth() && !line_.empty()) {
    state_.fifo.push_back(line_.front());
    line_.pop_front();
  }
}

void Uart16550::update_irq() {
  bool level =
      pending_interrupt() != Uart::kIirNone && (state_.mcr & Uart::kMcrOut2) != 0 && !loopback();
  if (level == irq_level_) return;
  irq_level_ = level;
  irq_.set_level(level);
}

// True once after the line has run low for a channel that had to hold bytes back. The caller tells
// the channel, without the lock.
bool Uart16550::take_receiver_ready() {
  if (!line_refused_ || line_.size() > kLineCapacity / 2) return false;
  line_refused_ = false;
  return true;
}

size_t Uart16550::receive(std::span<const uint8_t> bytes) {
  MutexLock lock(mutex_);
  size_t room = kLineCapacity - std::min(kLineCapacity, line_.size());
  size_t taken = std::min(room, bytes.size());
  for (uint8_t byte : bytes.first(taken))
    line_.push_back({byte, 0});
  if (taken < bytes.size()) line_refused_ = true;
  refill_fifo();
  update_irq();
  return taken;
}

void Uart16550::receive_break() {
  MutexLock lock(mutex_);
  if (line_.size() >= kLineCapacity) return;
  line_.push_back({0, Uart::kLsrBreak | Uart::kLsrFraming});
  refill_fifo();
  update_irq();
}

std::optional<uint8_t> Uart16550::peek_received() {
  MutexLock lock(mutex_);
  if (!state_.fifo.empty()) return state_.fifo.front().byte;
  if (!line_.empty()) return line_.front().byte;
  return std::nullopt;
}

std::optional<uint8_t> Uart16550::take_received() {
  std::optional<uint8_t> byte;
  bool ready = false;
  {
    MutexLock lock(mutex_);
    if (state_.fifo.empty() && !line_.empty()) {
      byte = line_.front().byte;  // in loopback: past the FIFO
      line_.pop_front();
    } else if (!state_.fifo.empty()) {
      byte = read_receiver_buffer();
    }
    update_irq();
    ready = take_receiver_ready();
  }
  if (ready) channel_.receiver_ready();
  return byte;
}

void Uart16550::transmit(std::span<const uint8_t> bytes) {
  for (uint8_t byte : bytes)
    output_.put(byte);
}

// The guest found THRE clear and may wait for the interrupt that says otherwise.
void Uart16550::on_output_room() {
  MutexLock lock(mutex_);
  state_.thre_interrupt = true;
  update_irq();
}

}  // namespace calf::devices
