// Base address registers: windows that the guest may move.
//
//     config write to a BAR / command register
//        -> Function computes where the BAR is to be decoded
//        -> BarDecoder::move(): detach doorbells, unmap, map, attach doorbells
//
// The decoder forwards only addresses inside the bridge's windows, as a host bridge does, so no
// value that a guest puts into a BAR reaches RAM, the interrupt controllers or the ECAM window. A
// BAR moved onto one that is already decoded waits until that place becomes free.
//
// Doorbells are attached when the first one of a BAR is rung, and follow it from then on: KVM takes
// milliseconds to attach one, or to end a machine that had one attached a moment ago (RCU), and a
// guest that sizes and moves its BARs would pay for it each time.
//
// PCI 3.0, 6.2.5. Not supported: I/O BARs, ROM BARs, sizes below one page (BARs never share a
// page).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "block/base/byte_range.h"
#include "block/base/log.h"
#include "block/base/mutex.h"
#include "devices/core/bus.h"
#include "devices/core/irq.h"

namespace calf::pci {

enum class BarKind : uint8_t { kMemory32, kMemory64 };

// A place in a BAR where a write is nothing but a signal.
struct Doorbell {
  uint64_t offset = 0;  // in the BAR
  uint32_t length = 0;  // bytes of the write, 0: any
  int event_fd = -1;    // not owned
};

struct Bar {
  static constexpr uint64_t kMinimumSize = 4096;

  uint8_t index = 0;  // of its (first) register, 0 to 5
  BarKind kind = BarKind::kMemory32;
  bool prefetchable = false;
  uint64_t size = 0;                  // a power of two, at least kMinimumSize
  devices::Device* device = nullptr;  // not owned, outlives the decoder
  std::vector<Doorbell> doorbells;
  // The decoder's: where it stands on the bus now, and whether its doorbells stand there, too.
  std::optional<uint64_t> decoded_at;
  bool rings = false;
};

// Any thread.
class BarDecoder {
 public:
  // `doorbells` may be null: every doorbell write is then an exit.
  BarDecoder(devices::Bus& mmio, devices::DoorbellController* doorbells, Log& log)
      : mmio_(&mmio), doorbells_(doorbells), log_(&log) {}

  // What the bridge forwards.
  void set_windows(ByteRange window32, ByteRange window64);

  // The guest wants `bar` decoded at `address` (nothing: not at all). `bar` stays where it is in
  // memory while it is known here.
  void move(Bar& bar, std::optional<uint64_t> address);

  // A write to one of its doorbells came as an exit: the next ones need not.
  void attach_doorbells(Bar& bar);
  // As before the first one was rung.
  void detach_doorbells(Bar& bar);

 private:
  struct Waiting {
    Bar* bar;
    uint64_t address;
  };
  bool forwards(uint64_t address, uint64_t size) const CALF_REQUIRES(mutex_);
  bool map(Bar& bar, uint64_t address) CALF_REQUIRES(mutex_);
  void unmap(Bar& bar) CALF_REQUIRES(mutex_);
  void attach_at(const Bar& bar, uint64_t address) CALF_REQUIRES(mutex_);
  void detach_at(const Bar& bar, uint64_t address) CALF_REQUIRES(mutex_);

  devices::Bus* mmio_;
  devices::DoorbellController* doorbells_;
  Log* log_;
  Mutex mutex_;
  RateLimit log_limit_ CALF_GUARDED_BY(mutex_);
  ByteRange window32_ CALF_GUARDED_BY(mutex_);
  ByteRange window64_ CALF_GUARDED_BY(mutex_);
  std::vector<Waiting> waiting_ CALF_GUARDED_BY(mutex_);
};

}  // namespace calf::pci
