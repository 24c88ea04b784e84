#include "devices/legacy/i8042.h"

namespace calf::devices {

namespace {

// Answers that nobody reads must not pile up.
constexpr size_t kMaxOutput = 16;

}  // namespace

I8042::I8042(MachineControl& machine, A20Gate& a20, IrqLine& keyboard_irq, IrqLine& auxiliary_irq)
    : machine_(machine),
      a20_(a20),
      keyboard_irq_(keyboard_irq),
      auxiliary_irq_(auxiliary_irq),
      data_port_([this] { return read_data(); }, [this](uint8_t v) { write_data(v); }),
      command_port_([this] { return read_status(); }, [this](uint8_t v) { write_command(v); }) {}

void I8042::reset() {
  MutexLock lock(mutex_);
  state_ = State{};
  update_irqs();
}

uint8_t I8042::read_data() {
  MutexLock lock(mutex_);
  if (state_.output.empty()) return 0;
  uint8_t byte = state_.output.front().byte;
  state_.output.pop_front();
  update_irqs();
  return byte;
}

uint8_t I8042::read_status() {
  MutexLock lock(mutex_);
  uint8_t status = kNotInhibited;
  if ((state_.ram[0] & kCommandSystemFlag) != 0) status |= kSystemFlag;
  if (state_.last_was_command) status |= kLastWasCommand;
  if (!state_.output.empty()) status |= kOutputBufferFull | state_.output.front().status;
  return status;
}

void I8042::write_data(uint8_t value) {
  bool reset = false;
  {
    MutexLock lock(mutex_);
    state_.last_was_command = false;
    if (state_.command_waiting_for_data) {
      uint8_t command = *state_.command_waiting_for_data;
      state_.command_waiting_for_data.reset();
      reset = finish_command(command, value);
    } else {
      answer(kDeviceAbsent, kTimeout);  // a byte for the keyboard
    }
    update_irqs();
  }
  if (reset) machine_.request_reset(ResetReason::kKeyboardController);
}

void I8042::write_command(uint8_t command) {
  bool reset = false;
  {
    MutexLock lock(mutex_);
    state_.last_was_command = true;
    state_.command_waiting_for_data.reset();
    reset = run_command(command);
    update_irqs();
  }
  if (reset) machine_.request_reset(ResetReason::kKeyboardController);
}

bool I8042::run_command(uint8_t command) {
  if (command >= kReadRam && command < kReadRam + sizeof state_.ram) {
    answer(state_.ram[command - kReadRam]);
    return false;
  }
  if (command >= kWriteRam && command < kWriteRam + sizeof state_.ram) {
    state_.command_waiting_for_data = command;
    return false;
  }
  if (command >= kPulseOutputPort) return (command & kResetOff) == 0;
  switch (command) {
    case kDisableAuxiliaryPort:
      state_.ram[0] |= kDisableAuxiliary;
      return false;
    case kEnableAuxiliaryPort:
      state_.ram[0] &= static_cast<uint8_t>(~kDisableAuxiliary);
      return false;
    case kTestAuxiliaryPort:
      answer(kPortTestClockStuckLow);  // tells Linux that there is no mouse port
      return false;
    case kSelfTest:
      state_.ram[0] |= kCommandSystemFlag;
      answer(kSelfTestPassed);
      return false;
    case kTestKeyboardPort:
      answer(kPortTestPassed);
      return false;
    case kDisableKeyboardPort:
      state_.ram[0] |= kDisableKeyboard;
      return false;
    case kEnableKeyboardPort:
      state_.ram[0] &= static_cast<uint8_t>(~kDisableKeyboard);
      return false;
    case kReadInputPort:
      answer(kInputPortIdle);
      return false;
    case kReadOutputPort:
      answer(output_port());
      return false;
    case kWriteOutputPort:
    case kWriteKeyboardBuffer:
    case kWriteAuxiliaryBuffer:
    case kWriteAuxiliaryDevice:
      state_.command_waiting_for_data = command;
      return false;
    case kDisableA20:
    case kEnableA20:
      a20_.set(command == kEnableA20);
      return false;
    default:
      return false;
  }
}

bool I8042::finish_command(uint8_t command, uint8_t data) {
  if (command >= kWriteRam && command < kWriteRam + sizeof state_.ram) {
    state_.ram[command - kWriteRam] = data;
    return false;
  }
  switch (command) {
    case kWriteOutputPort:
      return write_output_port(data);
    case kWriteKeyboardBuffer:
    case kWriteAuxiliaryBuffer:
      // The second should come back marked as the mouse's; unmarked, it tells Linux at once that
      // the controller has no mouse port.
      answer(data);
      return false;
    case kWriteAuxiliaryDevice:
      answer(kDeviceAbsent, kAuxiliaryData | kTimeout);
      return false;
    default:
      return false;
  }
}

uint8_t I8042::output_port() const {
  uint8_t port = kResetOff;
  if (a20_.enabled()) port |= kA20;
  if (!state_.output.empty()) {
    bool auxiliary = (state_.output.front().status & kAuxiliaryData) != 0;
    port |= auxiliary ? kAuxiliaryBufferFull : kKeyboardBufferFull;
  }
  return port;
}

bool I8042::write_output_port(uint8_t value) {
  a20_.set((value & kA20) != 0);
  return (value & kResetOff) == 0;
}

void I8042::answer(uint8_t byte, uint8_t status) {
  if (state_.output.size() < kMaxOutput) state_.output.push_back({byte, status});
}

void I8042::update_irqs() {
  bool full = !state_.output.empty();
  bool auxiliary = full && (state_.output.front().status & kAuxiliaryData) != 0;
  bool keyboard_level = full && !auxiliary && (state_.ram[0] & kKeyboardInterrupt) != 0;
  bool auxiliary_level = auxiliary && (state_.ram[0] & kAuxiliaryInterrupt) != 0;
  if (keyboard_level != keyboard_level_) keyboard_irq_.set_level(keyboard_level);
  if (auxiliary_level != auxiliary_level_) auxiliary_irq_.set_level(auxiliary_level);
  keyboard_level_ = keyboard_level;
  auxiliary_level_ = auxiliary_level;
}

}  // namespace calf::devices
