// Device: a chip behind a window of registers. It knows neither its address nor KVM.
#pragma once

#include <cstdint>
#include <span>

namespace calf::devices {

// Accesses come from vCPU threads, several at once; a device that has state guards it with a mutex
// of its own, and never waits for anything there (a slow reader of a serial port must not stall a
// vCPU).
class Device {
 public:
  virtual ~Device() = default;
  // Reads `data.size()` bytes (1, 2, 4 or 8) at `offset` within the window, little-endian. A
  // register that does not exist reads as all ones. Whatever the guest does here, the host process
  // survives it.
  virtual void read(uint64_t offset, std::span<uint8_t> data) = 0;
  // Writes to registers that do not exist are ignored.
  virtual void write(uint64_t offset, std::span<const uint8_t> data) = 0;
  // Back to the power-on state: registers, interrupt lines low, timers disarmed. Called on the
  // control thread after a reset of the machine, while no vCPU runs. Devices without state keep
  // this one.
  virtual void reset() {}
};

// For devices whose registers are one byte wide: wider accesses become consecutive byte accesses,
// as on ISA.
class ByteDevice : public Device {
 public:
  virtual uint8_t read_byte(uint64_t offset) = 0;
  virtual void write_byte(uint64_t offset, uint8_t value) = 0;
  void read(uint64_t offset, std::span<uint8_t> data) final {
    for (uint8_t& byte : data)
      byte = read_byte(offset++);
  }
  void write(uint64_t offset, std::span<const uint8_t> data) final {
    for (uint8_t byte : data)
      write_byte(offset++, byte);
  }
};

}  // namespace calf::devices
