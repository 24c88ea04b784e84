#include "vmm/pci_devices.h"

#include <algorithm>

#include "firmware/platform.h"

namespace calf::vmm {
namespace {

// Beyond this many queues a disk gains nothing: they are served by one executor.
constexpr unsigned kMaxDefaultQueues = 8;

virtio::ErrorPolicy policy(DiskErrorAction action) {
  switch (action) {
    case DiskErrorAction::kIgnore:
      return virtio::ErrorPolicy::kIgnore;
    case DiskErrorAction::kStop:
      return virtio::ErrorPolicy::kStop;
    case DiskErrorAction::kEnospc:
      return virtio::ErrorPolicy::kNoSpace;
    case DiskErrorAction::kReport:
      break;
  }
  return virtio::ErrorPolicy::kReport;
}

}  // namespace

Result<std::unique_ptr<PciDevices>> PciDevices::create(const MachineConfig& config,
                                                       std::vector<std::unique_ptr<Disk>>& disks,
                                                       Parts parts) {
  std::unique_ptr<PciDevices> pci(new PciDevices);
  TRY_VOID(pci->add_bridge(parts));
  for (unsigned i = 0; i < disks.size(); ++i) {
    std::optional<uint8_t> function;
    if (disks[i]->config().attach) {
      function = static_cast<uint8_t>(pci->slots() << 3);
      TRY_VOID(pci->add_disk(config, *disks[i], i, parts));
    }
    pci->disk_functions_.push_back(function);
  }
  for (unsigned i = 0; i < config.rng_devices; ++i)
    TRY_VOID(pci->add_rng(i, disks, parts));
  TRY_VOID(pci->bridge_->assign_resources(firmware::kPciWindow32, parts.map.pci_window64()));
  return pci;
}

PciDevices::~PciDevices() {
  stop();
}

Result<void> PciDevices::add_bridge(const Parts& parts) {
  pci::HostBridge::Options options;
  options.mmio = &parts.mmio;
  options.doorbells = &parts.irq;
  options.log = &parts.log;
  options.reset_control = &parts.reset_control;
  for (uint8_t gsi : firmware::kPciIntxLines) {
    lines_.push_back(parts.irq.make_line(gsi));
    options.intx.push_back({lines_.back().get(), gsi});
  }
  bridge_ = std::make_unique<pci::HostBridge>(std::move(options));
  TRY_VOID(
      parts.ports.map({firmware::kPciConfigPort, pci::kConfigPortCount}, bridge_->config_ports()));
  return parts.mmio.map(firmware::kEcam, bridge_->ecam());
}

Result<void> PciDevices::add_disk(const MachineConfig& config, Disk& disk, unsigned number,
                                  const Parts& parts) {
  const DiskConfig& wanted = disk.config();
  virtio::BlkOptions options;
  unsigned queues =
      wanted.queues != 0 ? wanted.queues : std::min(config.topology.cpus, kMaxDefaultQueues);
  options.queues = static_cast<uint16_t>(queues);
  options.queue_size = static_cast<uint16_t>(wanted.queue_size);
  options.serial = wanted.serial;
  options.read_only = disk.read_only();
  options.writeback =
      wanted.cache != CacheMode::kWritethrough && wanted.cache != CacheMode::kDirectSync;
  options.logical_block_size = wanted.logical_block_size;
  options.physical_block_size = wanted.physical_block_size;
  options.discard = wanted.discard_unmap || wanted.snapshot;
  options.on_read_error = policy(wanted.on_read_error);
  options.on_write_error = policy(wanted.on_write_error);
  options.on_stop = [stop = parts.on_disk_stop, &disk](const Error& error) { stop(disk, error); };
  TRY(std::unique_ptr<virtio::Blk> blk,
      virtio::Blk::create(disk.executor(), disk.node(), std::move(options), parts.log));
  devices_.push_back(std::move(blk));
  return add(*devices_.back(), fmt::format("virtio-blk{}", number), parts);
}

Result<void> PciDevices::add_rng(unsigned number, std::vector<std::unique_ptr<Disk>>& disks,
                                 const Parts& parts) {
  if (disks.empty() && own_thread_ == nullptr) {
    TRY(own_thread_, IoThread::start("calf-devices"));
  }
  Executor& executor = disks.empty() ? own_thread_->executor() : disks.front()->executor();
  devices_.push_back(std::make_unique<virtio::Rng>(executor));
  return add(*devices_.back(), fmt::format("virtio-rng{}", number), parts);
}

Result<void> PciDevices::add(virtio::Device& device, std::string id, const Parts& parts) {
  virtio::PciTransport::Options options;
  options.device = &device;
  options.memory = &parts.memory;
  options.msi = &parts.irq;
  options.log = &parts.log;
  options.id = std::move(id);
  TRY(std::unique_ptr<virtio::PciTransport> transport,
      virtio::PciTransport::create(std::move(options)));
  TRY_VOID(bridge_->add(*transport));
  transports_.push_back(std::move(transport));
  return {};
}

Result<void> PciDevices::reset() {
  return bridge_->reset();
}

void PciDevices::stop() {
  for (auto& transport : transports_)
    transport->stop();
}

virtio::QueueCounters PciDevices::disk_counters() const {
  virtio::QueueCounters total;
  for (const auto& device : devices_)
    if (device->type() == virtio::kTypeBlock) total += device->counters();
  return total;
}

}  // namespace calf::vmm
