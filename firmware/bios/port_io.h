// Port accesses of the services, as `in` and `out` would make them: where nothing answers, ones.
#pragma once

#include <cstdint>

#include "devices/core/bus.h"

namespace calf::firmware {

template <class T>
T port_in(devices::Bus& ports, uint16_t port) {
  uint8_t bytes[sizeof(T)];
  if (!ports.read(port, bytes)) return static_cast<T>(~T{0});
  T value = 0;
  for (unsigned i = 0; i < sizeof(T); ++i)
    value = static_cast<T>(value | static_cast<T>(bytes[i]) << (8 * i));
  return value;
}

template <class T>
void port_out(devices::Bus& ports, uint16_t port, T value) {
  uint8_t bytes[sizeof(T)];
  for (unsigned i = 0; i < sizeof(T); ++i)
    bytes[i] = static_cast<uint8_t>(value >> (8 * i));
  if (!ports.write(port, bytes)) return;  // nobody there: the write is lost, as on the bus
}

}  // namespace calf::firmware
