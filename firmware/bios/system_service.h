// INT 15h: A20 gate, waits, memory sizes and map, block move.
//
// Not supported: APM (53h), joystick (84h), pointing device (C2h), watchdog (C3h) and whatever else
// is not listed in system_service.cpp: carry and AH = 86h.
#pragma once

#include <vector>

#include "devices/core/bus.h"
#include "firmware/bios/call.h"
#include "firmware/bios/deadlines.h"
#include "firmware/memory_map.h"

namespace calf::firmware {

class SystemService {
 public:
  // `e820` outlives the service.
  SystemService(std::span<const E820Entry> e820, devices::Bus& ports, devices::Clock& clock,
                Deadlines& deadlines, const RealMemory& memory);

  // False if there is no such function; registers are then as they were.
  bool handle(Call& call);
  // A timer interrupt while the wait of INT 15h 83h runs.
  void tick();
  void reset() { event_.reset(); }

 private:
  bool a20(Call& call);
  void event_wait(Call& call);
  void wait(Call& call);
  void block_move(Call& call);
  void memory_map(Call& call);
  void memory_above_16m(Call& call, bool wide);

  std::span<const E820Entry> e820_;
  devices::Bus& ports_;
  devices::Clock& clock_;
  Deadlines& deadlines_;
  const RealMemory& memory_;
  uint64_t extended_memory_;  // bytes of RAM from 1 MiB on, without a gap
  // When the wait of 83h is over.
  std::optional<std::chrono::nanoseconds> event_;
};

}  // namespace calf::firmware
