// I8042: the keyboard controller of a machine without a keyboard.
//
// It is here because kernels probe it, and boot loaders switch A20 and reset the machine through
// it. Whatever is sent to the keyboard or mouse is answered at once as an absent device is: 0xFE
// with the timeout bit, so no driver waits.
//
//   0x60  data            0x64  read: status, write: command
//
// Documentation: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device
// Controller". Not supported: keyboards, mice, password commands.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "block/base/mutex.h"
#include "devices/core/irq.h"
#include "devices/core/machine_control.h"
#include "devices/legacy/a20_gate.h"
#include "devices/legacy/byte_port.h"

namespace calf::devices {

class I8042 {
 public:
  enum Status : uint8_t {
    kOutputBufferFull = 1 << 0,
    kInputBufferFull = 1 << 1,  // never: every write is handled at once
    kSystemFlag = 1 << 2,
    kLastWasCommand = 1 << 3,
    kNotInhibited = 1 << 4,  // the key lock is open
    kAuxiliaryData = 1 << 5,
    kTimeout = 1 << 6,
  };
  enum CommandByte : uint8_t {
    kKeyboardInterrupt = 1 << 0,
    kAuxiliaryInterrupt = 1 << 1,
    kCommandSystemFlag = 1 << 2,
    kDisableKeyboard = 1 << 4,
    kDisableAuxiliary = 1 << 5,
    kTranslate = 1 << 6,
  };
  enum Command : uint8_t {
    kReadRam = 0x20,   // to 0x3F; 0x20 itself is the command byte
    kWriteRam = 0x60,  // to 0x7F
    kDisableAuxiliaryPort = 0xa7,
    kEnableAuxiliaryPort = 0xa8,
    kTestAuxiliaryPort = 0xa9,
    kSelfTest = 0xaa,
    kTestKeyboardPort = 0xab,
    kDisableKeyboardPort = 0xad,
    kEnableKeyboardPort = 0xae,
    kReadInputPort = 0xc0,
    kReadOutputPort = 0xd0,
    kWriteOutputPort = 0xd1,
    kWriteKeyboardBuffer = 0xd2,
    kWriteAuxiliaryBuffer = 0xd3,
    kWriteAuxiliaryDevice = 0xd4,
    kDisableA20 = 0xdd,
    kEnableA20 = 0xdf,
    kPulseOutputPort = 0xf0,  // to 0xFF: bits that are 0 are pulsed low; bit 0 is reset
  };
  enum OutputPort : uint8_t {
    kResetOff = 1 << 0,
    kA20 = 1 << 1,
    kKeyboardBufferFull = 1 << 4,
    kAuxiliaryBufferFull = 1 << 5,
  };
  static constexpr uint8_t kSelfTestPassed = 0x55;
  static constexpr uint8_t kPortTestPassed = 0x00;
  static constexpr uint8_t kPortTestClockStuckLow = 0x01;
  static constexpr uint8_t kDeviceAbsent = 0xfe;
  static constexpr uint8_t kInputPortIdle = 0xa0;

  // All outlive the chip.
  I8042(MachineControl& machine, A20Gate& a20, IrqLine& keyboard_irq, IrqLine& auxiliary_irq);

  Device& data_port() { return data_port_; }        // 0x60
  Device& command_port() { return command_port_; }  // 0x64
  void reset();

 private:
  struct Output {
    uint8_t byte;
    uint8_t status;  // kAuxiliaryData, kTimeout
  };
  struct State {
    uint8_t ram[32] = {kKeyboardInterrupt | kCommandSystemFlag | kTranslate};
    std::optional<uint8_t> command_waiting_for_data;
    bool last_was_command = false;
    std::deque<Output> output;
  };

  uint8_t read_data();
  uint8_t read_status();
  void write_data(uint8_t value);
  void write_command(uint8_t command);

  uint8_t output_port() const CALF_REQUIRES(mutex_);
  // True if the machine is to be reset.
  [[nodiscard]] bool write_output_port(uint8_t value) CALF_REQUIRES(mutex_);
  [[nodiscard]] bool run_command(uint8_t command) CALF_REQUIRES(mutex_);
  [[nodiscard]] bool finish_command(uint8_t command, uint8_t data) CALF_REQUIRES(mutex_);
  void answer(uint8_t byte, uint8_t status = 0) CALF_REQUIRES(mutex_);
  void update_irqs() CALF_REQUIRES(mutex_);

  MachineControl& machine_;
  A20Gate& a20_;
  IrqLine& keyboard_irq_;
  IrqLine& auxiliary_irq_;
  Mutex mutex_;
  State state_ CALF_GUARDED_BY(mutex_);
  bool keyboard_level_ CALF_GUARDED_BY(mutex_) = false;
  bool auxiliary_level_ CALF_GUARDED_BY(mutex_) = false;
  BytePort data_port_;
  BytePort command_port_;
};

}  // namespace calf::devices
