// INT 1Ah, 00h to 07h: ticks since midnight, and the real-time clock.
//
// Ticks are counted by the timer interrupt in the BIOS data area. The clock is the machine's RTC
// chip, reached by its ports, so that a guest finds there what it set here.
#pragma once

#include "devices/core/bus.h"
#include "firmware/bios/call.h"

namespace calf::firmware {

class TimeService {
 public:
  TimeService(devices::Bus& ports, const RealMemory& memory) : ports_(ports), memory_(memory) {}

  // False if there is no such function; registers are then as they were.
  bool handle(Call& call);

  // Ticks since midnight, by the RTC.
  uint32_t ticks_now();

 private:
  struct Time {
    uint8_t hours, minutes, seconds;  // BCD, 24 hours
  };
  struct Date {
    uint8_t century, year, month, day;  // BCD
  };

  uint8_t read(uint8_t index);
  void write(uint8_t index, uint8_t value);
  bool uses_binary();
  uint8_t read_bcd(uint8_t index);
  void write_bcd(uint8_t index, uint8_t value);
  Time time();
  Date date();
  void set_running(bool running);
  bool set_alarm(const RealModeRegs& regs);

  devices::Bus& ports_;
  const RealMemory& memory_;
};

}  // namespace calf::firmware
