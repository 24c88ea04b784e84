// ConfigSpace: the 256 bytes of one function, and which of their bits the guest may change.
//
//     0x00  header (type 0) ........ ids, command, status, class, BARs, interrupt line and pin
//     0x40  capabilities ........... a linked list, in order of add_capability()
//
// Pure storage: what a change means is the Function's business. PCI 3.0, 6.1 to 6.7.
// Not supported: ROM BAR, power management, extended space, write-one-to-clear status bits (none of
// our functions ever sets one, so they read as zero).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "devices/pci/regs.h"

namespace calf::pci {

struct Identity {
  uint16_t vendor = 0;
  uint16_t device = 0;
  uint16_t subsystem_vendor = 0;
  uint16_t subsystem = 0;
  uint32_t class_code = 0;  // class << 16 | subclass << 8 | programming interface
  uint8_t revision = 0;
};

class ConfigSpace {
 public:
  explicit ConfigSpace(const Identity& identity);

  // `size` is 1, 2 or 4; bytes beyond the space read as ones.
  uint32_t read(unsigned offset, unsigned size) const;
  // What the guest writes: only bits that set_writable() opened change.
  void write(unsigned offset, unsigned size, uint32_t value);
  // What the device itself sets: no mask. Inside the space.
  void set(unsigned offset, unsigned size, uint32_t value);
  // Opens the bits of `mask` to the guest, closes the others of these bytes.
  void set_writable(unsigned offset, unsigned size, uint32_t mask);

  // Appends a capability whose bytes after id and link are `body`; returns its offset. The caller
  // keeps the sum inside the space (asserted).
  uint8_t add_capability(uint8_t id, std::span<const uint8_t> body);

 private:
  std::array<uint8_t, kConfigSize> bytes_{};
  std::array<uint8_t, kConfigSize> writable_{};
  unsigned next_capability_ = kRegHeaderEnd;
  unsigned last_link_ = kRegCapabilities;
};

}  // namespace calf::pci
