// The steps of Machine::build(), in order.
#include <fcntl.h>
#include <unistd.h>

#include "vmm/cpuid.h"
#include "vmm/machine_parts.h"

namespace calf::vmm {

namespace {

// The kernel grows a process's descriptor table by copying it, and once there are threads it waits
// (tens of milliseconds) until none of them can be looking at the old one. So it is made large
// first.
void reserve_descriptors() {
  constexpr int kExpected = 1023;
  int high = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, kExpected);
  if (high < 0) high = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, kExpected / 4);
  if (high >= 0) ::close(high);
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::build(const MachineConfig& config, HostServices host) {
  auto parts = std::make_unique<Parts>(config, host);
  Phases& phases = parts->result.phases;
  phases.build_started = monotonic_now();
  // 1. What the options say makes sense together.
  TRY_VOID(parts->check());
  // 2. Descriptors before the first thread.
  reserve_descriptors();
  // 3. Guest memory: where what stands, and the host's mapping.
  TRY_VOID(parts->make_memory());
  phases.reach("memory");
  // 4. KVM: the machine, its memory and its interrupt controllers.
  TRY_VOID(parts->make_kvm_machine());
  phases.reach("kvm-machine");
  // 5. Images open on their own threads, while this one goes on.
  TRY_VOID(parts->start_opening_disks());
  phases.reach("disks-opening");
  // 6. Processors.
  TRY_VOID(parts->make_vcpus());
  phases.reach("vcpus");
  // 7. Timers, vCPU threads' rendezvous, power and reset.
  TRY_VOID(parts->make_controls());
  // 8. The chips of a PC.
  TRY_VOID(parts->make_chips());
  phases.reach("chips");
  // 9. The images are needed now.
  TRY_VOID(parts->finish_opening_disks());
  phases.reach("disks-open");
  // 10. PCI: host bridge, virtio.
  TRY_VOID(parts->make_pci_devices());
  phases.reach("devices");
  // 11. Firmware tables, BIOS or kernel, and where the first processor begins.
  TRY_VOID(parts->make_boot());
  phases.reach("boot-loaded");
  return std::unique_ptr<Machine>(new Machine(std::move(parts)));
}

Result<void> Machine::Parts::check() const {
  TRY_VOID(check_topology(config.topology));
  if (config.kernel.empty() && config.disks.empty()) {
    return make_error(ErrorKind::kInvalid,
                      "nothing to boot: name a disk image, -cdrom or -kernel (calf --help)");
  }
  if (config.kernel.empty() && (!config.initrd.empty() || !config.append.empty())) {
    return make_error(ErrorKind::kInvalid, "-initrd and -append need -kernel");
  }
  return {};
}

Result<void> Machine::Parts::start_opening_disks() {
  for (const DiskConfig& disk : config.disks) {
    TRY(std::unique_ptr<Disk> opening,
        Disk::start_opening(disk, static_cast<unsigned>(disks.size()), disk_environment));
    disks.push_back(std::move(opening));
  }
  return {};
}

Result<void> Machine::Parts::make_memory() {
  Result<firmware::MemoryMap> built = firmware::MemoryMap::build(config.memory_bytes);
  if (!built.ok()) return std::move(built.error()).with_context("-m");
  map.emplace(std::move(*built));
  if (!config.kernel.empty()) {
    kernel = KernelFile::start_reading(config, map->ram_below_4g());
  }
  TRY_VOID(check_host_memory(config.memory_bytes));
  TRY(ram, Ram::allocate(*map));
  return {};
}

Result<void> Machine::Parts::make_kvm_machine() {
  TRY(kvm::System opened, kvm::System::open());
  system.emplace(std::move(opened));
  if (config.topology.cpus > system->max_vcpus()) {
    return make_error(ErrorKind::kUnsupported, "-smp: this host's KVM allows {} vCPUs at most",
                      system->max_vcpus());
  }
  TRY(kvm::Vm created, system->create_vm());
  vm.emplace(std::move(created));
  TRY_VOID(vm->set_tss_address(static_cast<uint32_t>(firmware::kKvmTss.offset)));
  TRY_VOID(vm->set_identity_map_address(firmware::kKvmIdentityMap.offset));
  // In this order. Whatever changes MSRs' filter or memory waits for a grace period, which is over
  // at once as long as none is under way (0.1 ms for all of this); making the interrupt
  // controllers begins one (then 5 ms, with the filter behind the memory 13).
  TRY_VOID(CpuAssist::prepare(*vm));
  TRY_VOID(ram->attach(*vm, *map));
  TRY(irq, IrqController::create(*vm));
  // For a guest that ends before the grace period does. Where it cannot be hastened the end takes
  // longer, and that is all.
  hastening = std::thread([this] {
    [[maybe_unused]] Result<void> done = vm->hasten_grace_period(firmware::kKvmTss.offset);
  });
  return {};
}

Result<void> Machine::Parts::make_vcpus() {
  TRY(std::vector<kvm_cpuid_entry2> supported, system->supported_cpuid());
  CpuidRequest request;
  request.topology = config.topology;
  request.features = config.cpu_features;
  request.tsc_deadline_timer = system->capability(KVM_CAP_TSC_DEADLINE_TIMER) > 0;
  vcpus.reserve(config.topology.cpus);  // they do not move
  for (unsigned cpu = 0; cpu < config.topology.cpus; ++cpu) {
    TRY(std::vector<kvm_cpuid_entry2> cpuid, build_cpuid(supported, request, cpu));
    TRY(kvm::Vcpu vcpu, vm->create_vcpu(apic_id(config.topology, cpu)));
    TRY_VOID(vcpu.set_cpuid(cpuid));
    if (cpu == 0) {
      TRY(vcpu_template, VcpuTemplate::capture(vcpu));
    }
    TRY_VOID(finish_power_on(vcpu));
    vcpus.push_back(std::move(vcpu));
  }
  cpu_assist = std::make_unique<CpuAssist>(vcpus, ram->guest_memory());
  unsigned bits = physical_address_bits(supported);
  bool fits = bits >= 64 || map->pci_window64().end() <= uint64_t{1} << bits;
  if (!fits) {
    return make_error(ErrorKind::kUnsupported,
                      "-m: this processor has {} physical address bits, too few for {} MiB", bits,
                      config.memory_bytes / firmware::kOneMiB);
  }
  return {};
}

Result<void> Machine::Parts::make_controls() {
  TRY(timers, LoopTimers::create(host.loop));
  group = std::make_unique<VcpuGroup>(vcpus);
  run_state = std::make_unique<RunState>(host.loop, *group,
                                         [this](const Request& request) { on_request(request); });
  return {};
}

Result<void> Machine::Parts::make_chips() {
  TRY(chipset, Chipset::create(config, *map, {ports, *irq, *run_state, *timers, host}));
  return {};
}

Result<void> Machine::Parts::finish_opening_disks() {
  for (auto& disk : disks)
    TRY_VOID(disk->finish_opening());
  return {};
}

Result<void> Machine::Parts::make_pci_devices() {
  PciDevices::Parts from{ports,
                         mmio,
                         *irq,
                         ram->guest_memory(),
                         *map,
                         chipset->reset_control(),
                         host.log,
                         [this](const Disk& disk, const Error& error) {
                           Request stop{Request::Kind::kDiskError};
                           stop.text = error.with_context(disk.config().filename).message();
                           run_state->request(std::move(stop));
                         }};
  TRY(pci, PciDevices::create(config, disks, std::move(from)));
  return {};
}

Result<void> Machine::Parts::make_boot() {
  GuestBoot::Parts from{
      *map, ram->guest_memory(), ports, *irq, *chipset, *run_state, disks, host, *pci, kernel};
  TRY(boot, GuestBoot::create(config, from));
  return boot->power_on(vcpus[0], *vcpu_template);
}

}  // namespace calf::vmm
