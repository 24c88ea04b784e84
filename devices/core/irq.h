// How a device raises interrupts, without knowing what is above it.
#pragma once

#include <cstdint>
#include <memory>

#include "block/base/result.h"

namespace calf::devices {

// One input of the interrupt controllers (a GSI). Any thread.
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  // Level-triggered devices set and clear; edge-triggered ones pulse.
  virtual void set_level(bool high) = 0;
  void pulse() {
    set_level(true);
    set_level(false);
  }
};

// One message-signalled interrupt, its address and data programmed by the guest (PCI 3.0, 6.8).
class MsiRoute {
 public:
  virtual ~MsiRoute() = default;
  // Sets where trigger() goes. Called from vCPU threads when the guest writes its MSI-X table.
  virtual Result<void> set_message(uint64_t address, uint32_t data) = 0;
  // Any thread, never blocks. Before the first set_message() it does nothing.
  virtual void trigger() = 0;
};

class MsiController {
 public:
  virtual ~MsiController() = default;
  virtual Result<std::unique_ptr<MsiRoute>> make_route() = 0;
};

// Tells the hypervisor that writes to a guest address are to become eventfd signals (ioeventfd)
// instead of exits. It is an accelerator: a doorbell that is not attached reaches Device::write()
// instead.
class DoorbellController {
 public:
  virtual ~DoorbellController() = default;
  // Any write of `length` bytes (0: any length) to guest-physical `address` signals `event_fd`.
  virtual Result<void> attach(uint64_t address, uint32_t length, int event_fd) = 0;
  virtual void detach(uint64_t address, uint32_t length, int event_fd) = 0;
};

}  // namespace calf::devices
