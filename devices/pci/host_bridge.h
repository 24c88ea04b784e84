// HostBridge: the way from the CPU to PCI bus 0, and the firmware's part of setting it up.
//
//     ports 0xCF8/0xCFC --+                      +-- 00:00.0 the bridge itself
//                         +-- configuration ---- +-- 00:01.0 a function
//     ECAM window --------+                      +-- …
//
// Use: make it, add() the functions, map config_ports() on the port bus at kConfigAddressPort
// (kConfigPortCount ports) and ecam() on the MMIO bus (kEcamSize bytes, where MCFG says), then
// assign_resources(). Everything is a single bus, function 0 of each device.
//
// Thread-safe: one lock for configuration space and BAR changes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "block/base/byte_range.h"
#include "block/base/log.h"
#include "block/base/result.h"
#include "devices/core/bus.h"
#include "devices/core/irq.h"
#include "devices/pci/function.h"

namespace calf::pci {

inline constexpr unsigned kDeviceCount = 32;
inline constexpr uint64_t kEcamSize = 1u << kEcamBusShift;  // one bus

// Where a function stands.
struct Address {
  uint8_t bus = 0;
  uint8_t device = 0;
  uint8_t function = 0;
  friend bool operator==(Address, Address) = default;
};

class HostBridge {
 public:
  // An interrupt controller input that INTA# of some devices is wired to.
  struct IntxInput {
    devices::IrqLine* line = nullptr;  // level-triggered; not owned
    uint8_t gsi = 0;                   // also what the interrupt line register says
  };
  struct Options {
    devices::Bus* mmio = nullptr;                      // where BARs are decoded
    devices::DoorbellController* doorbells = nullptr;  // may be null
    Log* log = nullptr;
    // Device d's INTA# goes to input d % size. Empty: functions have messages only.
    std::vector<IntxInput> intx;
    // Byte accesses to port 0xCF9, which lies inside the configuration address port, go here
    // (offset 0). Null: they read as ones.
    devices::Device* reset_control = nullptr;
  };
  struct IntxRoute {
    Address address;
    uint8_t gsi;  // of INTA#
  };

  explicit HostBridge(Options options);
  ~HostBridge();

  // `function` is not owned and outlives the bridge's use. Takes the given device number, or the
  // lowest free one. Fails if it is taken or all are.
  Result<Address> add(Function& function, std::optional<uint8_t> device = std::nullopt);

  // What firmware does before the guest starts: places all BARs (64-bit ones below 4 GiB too while
  // there is room, so that 32-bit code reaches them), sets interrupt lines, enables memory
  // decoding. Windows are what the bridge forwards from then on; window64 may be empty. Fails if
  // the BARs do not fit.
  Result<void> assign_resources(ByteRange window32, ByteRange window64);

  // Machine reset: every function in power-on state, then resources as last assigned. No vCPU runs.
  Result<void> reset();

  devices::Device& config_ports();
  devices::Device& ecam();

  // Configuration accesses of firmware services; any size-aligned register. A function that does
  // not exist reads as ones.
  uint32_t read_config(Address address, unsigned offset, unsigned size);
  void write_config(Address address, unsigned offset, unsigned size, uint32_t value);

  // The functions with an interrupt pin, for ACPI's _PRT and the MP table.
  std::vector<IntxRoute> intx_routes() const;
  // GSI of device `device`'s INTA#; nothing where no inputs are wired.
  std::optional<uint8_t> intx_gsi(uint8_t device) const;

 private:
  class BridgeFunction;
  class ConfigPorts;
  class Ecam;

  Result<void> place_bars();  // mutex_ held

  Options options_;
  mutable std::mutex mutex_;
  BarDecoder decoder_;
  std::vector<std::unique_ptr<IntxWire>> wires_;
  std::array<Function*, kDeviceCount> functions_{};
  ByteRange window32_;
  ByteRange window64_;
  std::unique_ptr<BridgeFunction> bridge_;
  std::unique_ptr<ConfigPorts> config_ports_;
  std::unique_ptr<Ecam> ecam_;
};

}  // namespace calf::pci
