// Msix: the message-signalled interrupts of one function.
//
//     trigger(v) --- enabled? --- function or vector masked? -- yes --> pending bit v
//                                          | no
//                                          v
//                                   MsiRoute of v --> the guest
//
// A pending bit becomes an interrupt when the last mask goes. A route is told its message when the
// vector is unmasked and the message differs from the one it knows: a driver writes the three words
// of an entry one by one, and only the result is worth a change of the host's routing.
//
// Thread-safe: tables are written by vCPU threads, trigger() comes from executors. PCI 3.0, 6.8.2.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "block/base/log.h"
#include "block/base/result.h"
#include "devices/core/irq.h"
#include "devices/pci/config_space.h"

namespace calf::pci {

class Msix {
 public:
  // What fits in the one page that our functions give the table (the specification allows 2048).
  static constexpr uint16_t kMaxVectors = 256;

  // `vectors` is 1 to kMaxVectors.
  static Result<std::unique_ptr<Msix>> create(devices::MsiController& controller, uint16_t vectors,
                                              Log& log);

  uint16_t vectors() const { return static_cast<uint16_t>(entries_.size()); }
  uint64_t table_size() const { return entries_.size() * kMsixEntrySize; }
  uint64_t pba_size() const { return (entries_.size() + 63) / 64 * 8; }

  // Adds the capability; table and PBA stand in BAR `bar` at these offsets (multiples of 8).
  // Returns its offset.
  uint8_t add_capability(ConfigSpace& config, uint8_t bar, uint32_t table_offset,
                         uint32_t pba_offset) const;
  // The message control register as the guest wrote it.
  void set_control(uint16_t control);
  bool enabled() const;

  // Accesses to the table and the PBA; any size and offset, what is outside reads as zero.
  void read_table(uint64_t offset, std::span<uint8_t> data) const;
  void write_table(uint64_t offset, std::span<const uint8_t> data);
  void read_pba(uint64_t offset, std::span<uint8_t> data) const;

  // Raises vector `vector`; one that does not exist is ignored. Does not block.
  void trigger(uint16_t vector);
  // Everything masked, disabled, nothing pending.
  void reset();

 private:
  struct Entry {
    uint32_t words[4] = {0, 0, 0, kMsixEntryMasked};  // address, upper address, data, control
    bool pending = false;
    bool has_message = false;  // the route knows `message`
    uint64_t routed_address = 0;
    uint32_t routed_data = 0;
    std::unique_ptr<devices::MsiRoute> route;
    bool masked() const { return (words[3] & kMsixEntryMasked) != 0; }
  };

  Msix(std::vector<Entry> entries, Log& log) : entries_(std::move(entries)), log_(&log) {}
  void settle(Entry& entry);

  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  bool enabled_ = false;
  bool function_masked_ = false;
  Log* log_;
  RateLimit log_limit_;
};

}  // namespace calf::pci
