// Ports for test guests and firmware writers, the same as QEMU's and Bochs's.
//
//   0xE9   a byte written is a byte on a channel; reads as 0xE9, so a guest can see that it is
//   there 0xF4   isa-debug-exit: a value v written ends the program with status (v << 1) | 1 0x505
//   pvpanic: the guest reports that it crashed (QEMU docs/specs/pvpanic)
#pragma once

#include <cstdint>

#include "devices/core/device.h"
#include "devices/core/machine_control.h"
#include "devices/legacy/serial_output.h"

namespace calf::devices {

class DebugPort final : public ByteDevice {
 public:
  static constexpr uint64_t kWindow = 1;
  static constexpr uint8_t kPresent = 0xe9;

  // All outlive the port.
  DebugPort(ByteChannel& channel, TimerFactory& timers, Clock& clock)
      : output_(channel, timers, clock, {}) {}
  uint8_t read_byte(uint64_t offset) override { return offset == 0 ? kPresent : 0xff; }
  // With no room (64 KiB behind a reader that stopped) a byte is dropped and counted: this port has
  // no way to tell the guest.
  void write_byte(uint64_t offset, uint8_t value) override {
    if (offset == 0) output_.put(value);
  }
  void flush() { output_.flush(); }
  uint64_t dropped_output() { return output_.dropped(); }

 private:
  SerialOutput output_;
};

class DebugExit final : public Device {
 public:
  static constexpr uint64_t kWindow = 4;

  explicit DebugExit(MachineControl& machine) : machine_(machine) {}
  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  MachineControl& machine_;
};

class Pvpanic final : public ByteDevice {
 public:
  static constexpr uint64_t kWindow = 1;
  enum Events : uint8_t {
    kPanicked = 1 << 0,
    kCrashLoaded = 1 << 1,
    kSupported = kPanicked | kCrashLoaded,
  };

  explicit Pvpanic(MachineControl& machine) : machine_(machine) {}
  uint8_t read_byte(uint64_t offset) override { return offset == 0 ? kSupported : 0xff; }
  void write_byte(uint64_t offset, uint8_t value) override;

 private:
  MachineControl& machine_;
};

}  // namespace calf::devices
