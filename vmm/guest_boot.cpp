#include "vmm/guest_boot.h"

#include <algorithm>

#include "firmware/boot/kernel.h"
#include "vmm/cpuid.h"
#include "vmm/host_file.h"

namespace calf::vmm {

std::vector<size_t> boot_sequence(const MachineConfig& config) {
  std::vector<size_t> order;
  for (size_t i = 0; i < config.disks.size(); ++i)
    if (config.disks[i].boot_index) order.push_back(i);
  std::ranges::stable_sort(order, {}, [&](size_t i) { return *config.disks[i].boot_index; });
  for (char letter : config.boot_order) {
    if (letter != 'c' && letter != 'd') continue;
    DiskMedia media = letter == 'c' ? DiskMedia::kDisk : DiskMedia::kCdrom;
    for (size_t i = 0; i < config.disks.size(); ++i) {
      bool listed = std::ranges::find(order, i) != order.end();
      if (config.disks[i].media == media && !listed) order.push_back(i);
    }
  }
  return order;
}

std::optional<uint8_t> GuestBoot::ConsoleKeys::take() {
  return port_ != nullptr ? port_->take_received() : std::nullopt;
}

Result<std::unique_ptr<GuestBoot>> GuestBoot::create(const MachineConfig& config, Parts parts) {
  std::unique_ptr<GuestBoot> boot(new GuestBoot(config, parts));
  TRY(boot->tables_, boot->make_tables());
  if (config.kernel.empty()) boot->make_bios();
  return boot;
}

GuestBoot::GuestBoot(const MachineConfig& config, Parts parts)
    : config_(config), parts_(parts), keys_(parts.chipset.serial(0)) {}

Result<firmware::FirmwareTables> GuestBoot::make_tables() const {
  firmware::TablesConfig tables;
  const Topology& topology = config_.topology;
  for (unsigned cpu = 0; cpu < topology.cpus; ++cpu)
    tables.apic_ids.push_back(apic_id(topology, cpu));
  tables.topology = {topology.sockets, topology.cores, topology.threads};
  tables.pci_slots = parts_.pci.slots();
  tables.serial_ports = parts_.chipset.serial_ports();
  tables.pvpanic = config_.pvpanic;
  if (!config_.uuid.empty()) {
    TRY(tables.smbios.system.uuid, firmware::parse_uuid(config_.uuid));
  }
  for (const SmbiosEntry& entry : config_.smbios) {
    for (const auto& [key, value] : entry.fields)
      TRY_VOID(tables.smbios.set(entry.type, key, value));
  }
  return firmware::build_tables(tables, parts_.map);
}

void GuestBoot::make_bios() {
  firmware::BiosConfig bios;
  for (size_t i = 0; i < parts_.disks.size(); ++i) {
    const auto& disk = parts_.disks[i];
    bool cd = disk->config().media == DiskMedia::kCdrom;
    bios.disks.push_back({.node = &disk->node(),
                          .executor = &disk->executor(),
                          .kind = cd ? firmware::DiskKind::kCdrom : firmware::DiskKind::kHardDisk,
                          .read_only = disk->read_only(),
                          .sector_size = disk->config().logical_block_size,
                          .name = disk->config().filename,
                          .pci_function = parts_.pci.disk_function(i)});
  }
  bios.boot_sequence = boot_sequence(config_);
  bios.e820.assign(parts_.map.e820().begin(), parts_.map.e820().end());
  firmware::BiosServices services{
      .memory = parts_.memory,
      .ports = parts_.ports,
      .clock = parts_.host.clock,
      .log = parts_.host.log,
      .keys = keys_,
      .print =
          [console = parts_.chipset.serial(0)](std::span<const uint8_t> text) {
            if (console != nullptr) console->transmit(text);
          },
  };
  bios_ = std::make_unique<firmware::Bios>(std::move(bios), services);
  if (auto* console = parts_.chipset.serial(0)) {
    console->observe_guest_output(
        [bios = bios_.get()](uint8_t byte) { bios->note_serial_output(byte); });
  }
  trap_.emplace(*bios_, parts_.run_state);
}

Result<void> GuestBoot::set_up_chips() {
  TRY_VOID(parts_.irq.apply_bios_setup());
  parts_.chipset.timer().start_ticks(parts_.host.clock.monotonic());
  return {};
}

Result<void> GuestBoot::power_on(kvm::Vcpu& first, const VcpuTemplate& initial) {
  if (config_.kernel.empty()) return start_boot_sector(first, initial);
  return start_kernel(first, initial);
}

Result<void> GuestBoot::start_kernel(kvm::Vcpu& first, const VcpuTemplate& initial) {
  // The first time it is on its way; a reset reads it anew, as it stands then.
  Result<KernelFile> read = parts_.first_kernel.valid()
                                ? parts_.first_kernel.get()
                                : KernelFile::read(config_, parts_.map.ram_below_4g());
  TRY(KernelFile kernel, std::move(read));
  HostFile initrd;
  if (!config_.initrd.empty()) {
    TRY(initrd, HostFile::read(config_.initrd));
  }
  firmware::KernelSource source;
  source.kernel = kernel.file.bytes();
  source.unpacked = kernel.unpacked.span();
  source.initrd = initrd.bytes();
  source.command_line = config_.append;
  source.entry = kernel_entry(config_);
  source.rsdp = tables_.rsdp;
  Result<firmware::LoadedKernel> loaded = firmware::load_kernel(source, parts_.map, parts_.memory);
  if (!loaded.ok()) return std::move(loaded.error()).with_context(config_.kernel);
  parts_.host.log.info("{}: {}", config_.kernel, loaded->description);
  if (loaded->needs_bios) {
    if (bios_ == nullptr) make_bios();
    TRY_VOID(bios_->install());
    TRY_VOID(set_up_chips());
  }
  TRY_VOID(tables_.install(parts_.memory));
  return enter(first, initial, loaded->state);
}

Result<void> GuestBoot::start_boot_sector(kvm::Vcpu& first, const VcpuTemplate& initial) {
  TRY_VOID(bios_->install());
  TRY_VOID(tables_.install(parts_.memory));
  TRY_VOID(set_up_chips());
  firmware::RealModeRegs regs;
  TRY_VOID(bios_->boot(regs));
  return enter_real_mode(first, initial, regs);
}

}  // namespace calf::vmm
