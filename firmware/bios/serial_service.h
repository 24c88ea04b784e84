// INT 14h: the serial ports, byte by byte.
//
// Not supported: the extended functions 04h and 05h.
#pragma once

#include "devices/core/bus.h"
#include "firmware/bios/call.h"
#include "firmware/bios/deadlines.h"

namespace calf::firmware {

class SerialService {
 public:
  SerialService(devices::Bus& ports, Deadlines& deadlines, const RealMemory& memory)
      : ports_(ports), deadlines_(deadlines), memory_(memory) {}

  // False if there is no such function; registers are then as they were.
  bool handle(Call& call);

 private:
  void initialise(uint16_t port, uint8_t parameters);
  // True when one of `bits` is set in the line status, or the time for it is over (then AH says
  // so).
  bool wait_for(Call& call, uint16_t port, uint8_t bits, uint8_t timeout_seconds);
  void status(Call& call, uint16_t port);

  devices::Bus& ports_;
  Deadlines& deadlines_;
  const RealMemory& memory_;
};

}  // namespace calf::firmware
