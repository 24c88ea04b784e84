// Where a PC has its serial ports. Two ports share a line: give each an input of a SharedIrq.
#pragma once

#include <array>
#include <cstdint>

namespace calf::devices {

struct IsaSerialPort {
  const char* name;
  uint16_t base;
  uint8_t irq;
};

constexpr std::array<IsaSerialPort, 4> kIsaSerialPorts{{
    {"COM1", 0x3f8, 4},
    {"COM2", 0x2f8, 3},
    {"COM3", 0x3e8, 4},
    {"COM4", 0x2e8, 3},
}};

}  // namespace calf::devices
