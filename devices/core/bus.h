// Bus: which device answers at an address. One for ports, one for memory-mapped I/O.
//
// Lookups come from all vCPU threads at every exit; changes are rare (the guest moves a BAR).
// Readers take a shared lock. A device is called without the lock held, and lives as long as the
// machine, so a window that is unmapped while another vCPU is inside the device does no harm.
#pragma once

#include <cstdint>
#include <map>
#include <shared_mutex>
#include <span>
#include <string>

#include "block/base/byte_range.h"
#include "block/base/result.h"
#include "devices/core/device.h"

namespace calf::devices {

class Bus {
 public:
  // The device is not owned and outlives the bus. Fails if the range is empty or overlaps a mapped
  // one.
  Result<void> map(ByteRange range, Device& device);
  // Removes the window that starts at `offset`, if there is one.
  void unmap(uint64_t offset);

  // False if no device answers: reads are then all ones, writes are lost, as on a PC. An access
  // that runs over the end of a window is answered by the device where it starts (which sees only
  // registers it knows).
  bool read(uint64_t address, std::span<uint8_t> data);
  bool write(uint64_t address, std::span<const uint8_t> data);

 private:
  struct Window {
    uint64_t length;
    Device* device;
  };
  struct Hit {
    Device* device;
    uint64_t offset;
  };
  Hit find(uint64_t address);

  std::shared_mutex mutex_;
  std::map<uint64_t, Window> windows_;
};

}  // namespace calf::devices
