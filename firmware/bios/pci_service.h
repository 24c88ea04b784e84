// INT 1Ah, AH=B1h: PCI BIOS 2.1 (PCI BIOS Specification). Configuration space is reached by the
// ports of mechanism 1, as the guest would.
//
// Not supported: the 32-bit entry, special cycles, interrupt routing.
#pragma once

#include <functional>

#include "devices/core/bus.h"
#include "firmware/bios/call.h"

namespace calf::firmware {

class PciService {
 public:
  explicit PciService(devices::Bus& ports) : ports_(ports) {}

  // False if there is no such function; registers are then as they were.
  bool handle(Call& call);

 private:
  // A function on bus 0: slot << 3 | function.
  uint32_t address(uint8_t function, uint8_t offset) const;
  uint32_t read(uint8_t function, uint8_t offset, unsigned size);
  void write(uint8_t function, uint8_t offset, unsigned size, uint32_t value);
  // Finds the index-th function that matches.
  void find(Call& call, unsigned index, const std::function<bool(uint8_t function)>& matches);
  void access(Call& call, unsigned size, bool writes);

  devices::Bus& ports_;
};

}  // namespace calf::firmware
