#include "vmm/machine.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <thread>

#include "block/formats/known_formats.h"
#include "vmm/chipset.h"
#include "vmm/cpu_assist.h"
#include "vmm/cpuid.h"
#include "vmm/disk.h"
#include "vmm/guest_boot.h"
#include "vmm/irq.h"
#include "vmm/kvm/system.h"
#include "vmm/memory.h"
#include "vmm/pci_devices.h"
#include "vmm/run_state.h"
#include "vmm/timers.h"
#include "vmm/vcpu_group.h"
#include "vmm/vcpu_loop.h"
#include "vmm/vcpu_report.h"
#include "vmm/vcpu_setup.h"

namespace calf::vmm {

const char* to_string(EndReason reason) {
  switch (reason) {
    case EndReason::kPowerOff:
      return "power-off";
    case EndReason::kReset:
      return "reset";
    case EndReason::kTripleFault:
      return "triple-fault";
    case EndReason::kDebugExit:
      return "debug-exit";
    case EndReason::kPanic:
      return "panic";
    case EndReason::kQuit:
      return "quit";
    case EndReason::kTimeout:
      return "timeout";
    case EndReason::kDiskError:
      return "disk-error";
    case EndReason::kInternalError:
      break;
  }
  return "internal-error";
}

// What the machine is made of, in the order in which it is made; it goes in the opposite one.
struct Machine::Parts {
  Parts(const MachineConfig& machine_config, HostServices services)
      : config(machine_config),
        host(services),
        disk_environment{formats, services.log, machine_config.scratch_directory,
                         machine_config.scratch_limit},
        paused(machine_config.start_paused) {}
  ~Parts();

  // The steps of build(). Each leaves behind what later ones need.
  Result<void> check() const;
  Result<void> start_opening_disks();
  Result<void> make_memory();
  Result<void> make_kvm_machine();
  Result<void> make_vcpus();
  Result<void> make_controls();
  Result<void> make_chips();
  Result<void> finish_opening_disks();
  Result<void> make_pci_devices();
  Result<void> finish_attaching_memory();
  Result<void> make_boot();

  // ---- Running ----
  Result<void> start();
  void on_request(const Request& request);
  void reset_in_place(devices::ResetReason reason);
  void end(EndReason reason, std::string text = {});
  // Everything stops, images are closed; errors go to `result`.
  void shut_down();
  std::string describe_vcpus();
  void collect_statistics();

  const MachineConfig config;
  const HostServices host;
  const block::FormatTable formats = block::known_formats();
  const DiskEnvironment disk_environment;
  std::vector<std::unique_ptr<Disk>> disks;
  std::optional<firmware::MemoryMap> map;
  std::unique_ptr<Ram> ram;
  std::optional<kvm::System> system;
  std::optional<kvm::Vm> vm;
  std::unique_ptr<IrqController> irq;
  std::thread memory_attacher;
  Result<void> memory_attached;
  std::vector<kvm::Vcpu> vcpus;
  std::optional<VcpuTemplate> vcpu_template;
  std::unique_ptr<CpuAssist> cpu_assist;
  std::unique_ptr<LoopTimers> timers;
  std::unique_ptr<VcpuGroup> group;
  std::unique_ptr<RunState> run_state;
  devices::Bus ports;
  devices::Bus mmio;
  std::unique_ptr<Chipset> chipset;
  std::unique_ptr<PciDevices> pci;
  std::unique_ptr<GuestBoot> boot;
  std::vector<std::unique_ptr<VcpuLoop>> loops;
  std::unique_ptr<devices::Timer> time_limit;
  RunResult result;
  RateLimit triple_fault_log{3};
  std::atomic<bool> paused;  // by a person; a reset does not change it
  bool ended = false;
  bool powered_off = false;  // under no_shutdown: the guest is gone, the process waits for stop()
};

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

std::chrono::nanoseconds monotonic_now() {
  return std::chrono::steady_clock::now().time_since_epoch();
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::build(const MachineConfig& config, HostServices host) {
  auto parts = std::make_unique<Parts>(config, host);
  parts->result.phases.build_started = monotonic_now();
  // 1. What the options say makes sense together.
  TRY_VOID(parts->check());
  // 2. Descriptors before the first thread.
  reserve_descriptors();
  // 3. Images open on their own threads, while this one goes on.
  TRY_VOID(parts->start_opening_disks());
  // 4. Guest memory: where what stands, and the host's mapping.
  TRY_VOID(parts->make_memory());
  // 5. KVM: the machine and its interrupt controllers; memory slots in the background, since the
  //    first one waits for the host kernel.
  TRY_VOID(parts->make_kvm_machine());
  // 6. Processors.
  TRY_VOID(parts->make_vcpus());
  // 7. Timers, vCPU threads' rendezvous, power and reset.
  TRY_VOID(parts->make_controls());
  // 8. The chips of a PC.
  TRY_VOID(parts->make_chips());
  // 9. The images are needed now.
  TRY_VOID(parts->finish_opening_disks());
  // 10. PCI: host bridge, virtio.
  TRY_VOID(parts->make_pci_devices());
  // 11. Firmware tables, BIOS or kernel, and where the first processor begins.
  TRY_VOID(parts->make_boot());
  // 12. KVM knows the memory before a processor runs.
  TRY_VOID(parts->finish_attaching_memory());
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
  TRY(irq, IrqController::create(*vm));
  memory_attacher = std::thread([this] { memory_attached = ram->attach(*vm, *map); });
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
  TRY(cpu_assist, CpuAssist::create(*vm, vcpus, ram->guest_memory()));
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
  GuestBoot::Parts from{*map, ram->guest_memory(), ports, *irq, *chipset, *run_state, disks,
                        host, pci->slots()};
  TRY(boot, GuestBoot::create(config, from));
  return boot->power_on(vcpus[0], *vcpu_template);
}

Result<void> Machine::Parts::finish_attaching_memory() {
  memory_attacher.join();
  return memory_attached;
}

// ---- Running ----

Result<void> Machine::Parts::start() {
  VcpuContext context{
      ports, mmio, ram->guest_memory(), *run_state, *group, boot->bios_handler(), cpu_assist.get()};
  for (unsigned i = 0; i < vcpus.size(); ++i)
    loops.push_back(std::make_unique<VcpuLoop>(vcpus[i], i, context));
  if (config.timeout) {
    time_limit = timers->make_timer([this] { run_state->request({Request::Kind::kTimeout}); });
    time_limit->arm(monotonic_now() + *config.timeout);
  }
  if (paused) group->order_park();
  result.phases.first_entry = monotonic_now();
  if (boot->starts_boot_sector()) result.phases.boot_sector = result.phases.first_entry;
  return group->start([this](unsigned i) { loops[i]->run(); });
}

void Machine::Parts::on_request(const Request& request) {
  switch (request.kind) {
    case Request::Kind::kReset:
      if (powered_off) return;
      if (!config.no_reboot) return reset_in_place(request.reset_reason);
      return end(request.reset_reason == devices::ResetReason::kTripleFault
                     ? EndReason::kTripleFault
                     : EndReason::kReset);
    case Request::Kind::kPowerOff:
      if (!config.no_shutdown) return end(EndReason::kPowerOff);
      powered_off = true;
      return;
    case Request::Kind::kDebugExit:
      result.debug_exit_value = request.value;
      return end(EndReason::kDebugExit);
    case Request::Kind::kPanic:
      return end(EndReason::kPanic);
    case Request::Kind::kFailure:
      return end(EndReason::kInternalError, request.text);
    case Request::Kind::kDiskError:
      return end(EndReason::kDiskError, request.text);
    case Request::Kind::kTimeout:
      return end(EndReason::kTimeout, describe_vcpus());
    case Request::Kind::kQuit:
      return end(powered_off ? EndReason::kPowerOff : EndReason::kQuit);
  }
}

void Machine::Parts::reset_in_place(devices::ResetReason reason) {
  if (reason == devices::ResetReason::kTripleFault && triple_fault_log.allow()) {
    host.log.warning("the guest triple-faulted and starts again (-no-reboot ends it instead)");
  }
  ++result.statistics.resets;
  auto again = [this]() -> Result<void> {
    TRY_VOID(pci->reset());
    chipset->reset();
    TRY_VOID(irq->reset());
    for (unsigned i = 0; i < vcpus.size(); ++i)
      TRY_VOID(reset_vcpu(vcpus[i], *vcpu_template, apic_id(config.topology, i), i == 0));
    TRY_VOID(cpu_assist->reset());
    return boot->power_on(vcpus[0], *vcpu_template);
  };
  Result<void> done = again();
  if (!done.ok()) return end(EndReason::kInternalError, "reset: " + done.error().message());
  if (!paused) group->release();
}

void Machine::Parts::end(EndReason reason, std::string text) {
  if (ended) return;
  ended = true;
  result.reason = reason;
  result.text = std::move(text);
  host.loop.stop();
}

std::string Machine::Parts::describe_vcpus() {
  std::string text;
  for (unsigned i = 0; i < vcpus.size(); ++i) {
    if (i != 0) text += '\n';
    text += describe_state(vcpus[i], i, ram->guest_memory());
  }
  return text;
}

void Machine::Parts::collect_statistics() {
  for (const auto& loop : loops) {
    const VcpuLoop::Counters& counters = loop->counters();
    result.statistics.exits += counters.exits;
    result.statistics.io_exits += counters.io;
    result.statistics.mmio_exits += counters.mmio;
    result.statistics.bios_calls += counters.bios;
    result.statistics.completed_instructions += counters.completed;
  }
}

void Machine::Parts::shut_down() {
  if (group) group->quit();
  collect_statistics();
  if (pci) pci->stop();
  // The kernel needs as long for this as the disks for their last writes.
  std::thread kvm_closer([this] {
    vcpus.clear();
    vm->close();
  });
  if (chipset) chipset->flush();
  for (auto& disk : disks) {
    Result<void> closed = disk->close();
    if (closed.ok()) continue;
    // Lost data outranks what the guest had to say.
    result.reason = EndReason::kDiskError;
    if (!result.text.empty()) result.text += '\n';
    result.text += closed.error().message();
  }
  kvm_closer.join();
}

Machine::Parts::~Parts() {
  if (group) group->quit();
  if (memory_attacher.joinable()) memory_attacher.join();
  if (pci) pci->stop();
  for (auto& disk : disks) {
    Result<void> opened = disk->finish_opening();
    Result<void> closed = disk->close();
    if (opened.ok() && !closed.ok()) host.log.write(LogLevel::kError, closed.error().message());
  }
}

Machine::Machine(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Machine::~Machine() = default;

RunResult Machine::run() {
  Result<void> started = parts_->start();
  if (started.ok()) {
    parts_->host.loop.run();
  } else {
    parts_->end(EndReason::kInternalError, started.error().message());
  }
  parts_->shut_down();
  return parts_->result;
}

void Machine::press_power_button() {
  parts_->chipset->power().press_power_button();
}

void Machine::reset() {
  parts_->run_state->request_reset(devices::ResetReason::kUser);
}

void Machine::pause() {
  parts_->paused = true;
  parts_->group->order_park();
}

void Machine::resume() {
  parts_->paused = false;
  // On the control thread, where resets and ends are dealt with too: a machine that waits for one
  // of them goes on, or not, when that is done.
  parts_->host.loop.post([parts = parts_.get()] {
    bool over = parts->ended || parts->powered_off;
    if (!over && !parts->paused && !parts->run_state->pending()) parts->group->release();
  });
}

bool Machine::paused() const {
  return parts_->paused;
}

void Machine::stop() {
  parts_->run_state->request({Request::Kind::kQuit});
}

}  // namespace calf::vmm
