// PciDevices: the host bridge and the virtio devices behind it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "devices/core/bus.h"
#include "devices/core/guest_memory.h"
#include "devices/pci/host_bridge.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/pci_transport.h"
#include "devices/virtio/rng.h"
#include "firmware/memory_map.h"
#include "vmm/config.h"
#include "vmm/disk.h"
#include "vmm/io_thread.h"
#include "vmm/irq.h"

namespace calf::vmm {

class PciDevices {
 public:
  struct Parts {
    devices::Bus& ports;
    devices::Bus& mmio;
    IrqController& irq;
    const devices::GuestMemory& memory;
    const firmware::MemoryMap& map;
    devices::Device& reset_control;
    Log& log;
    // A disk error that stops the machine. Executor threads.
    std::function<void(const Disk&, const Error&)> on_disk_stop;
  };

  // Everything in `parts` and the disks outlive the devices. Disks are open; each gets a virtio-blk
  // device, in order.
  static Result<std::unique_ptr<PciDevices>> create(const MachineConfig& config,
                                                    std::vector<std::unique_ptr<Disk>>& disks,
                                                    Parts parts);
  // stop() was called.
  ~PciDevices();

  // Slots 0 to this number minus one are taken: the bridge and the devices behind it.
  unsigned slots() const { return static_cast<unsigned>(transports_.size()) + 1; }
  // Slot << 3 | function of the device that serves disk `number`; none if no device does.
  std::optional<uint8_t> disk_function(size_t number) const { return disk_functions_[number]; }

  // Power-on state. No vCPU runs.
  Result<void> reset();
  // Waits until nothing is in flight. No vCPU runs.
  void stop();
  // Of the disks' queues. After stop().
  virtio::QueueCounters disk_counters() const;

 private:
  PciDevices() = default;
  Result<void> add_bridge(const Parts& parts);
  Result<void> add_disk(const MachineConfig& config, Disk& disk, unsigned number,
                        const Parts& parts);
  Result<void> add_rng(unsigned number, std::vector<std::unique_ptr<Disk>>& disks,
                       const Parts& parts);
  Result<void> add(virtio::Device& device, std::string id, const Parts& parts);

  std::vector<std::unique_ptr<devices::IrqLine>> lines_;
  std::unique_ptr<IoThread> own_thread_;  // for devices of machines without disks
  std::unique_ptr<pci::HostBridge> bridge_;
  std::vector<std::unique_ptr<virtio::Device>> devices_;
  std::vector<std::unique_ptr<virtio::PciTransport>> transports_;
  std::vector<std::optional<uint8_t>> disk_functions_;
};

}  // namespace calf::vmm
