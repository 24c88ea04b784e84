// What a Machine is made of: for machine_build.cpp, which makes it, and machine.cpp, which runs it.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "block/formats/known_formats.h"
#include "vmm/chipset.h"
#include "vmm/cpu_assist.h"
#include "vmm/disk.h"
#include "vmm/guest_boot.h"
#include "vmm/irq.h"
#include "vmm/kvm/system.h"
#include "vmm/machine.h"
#include "vmm/memory.h"
#include "vmm/pci_devices.h"
#include "vmm/run_state.h"
#include "vmm/timers.h"
#include "vmm/vcpu_group.h"
#include "vmm/vcpu_loop.h"
#include "vmm/vcpu_setup.h"

namespace calf::vmm {

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
  std::future<Result<KernelFile>> kernel;  // from early on until the first power-on
  std::optional<kvm::System> system;
  std::optional<kvm::Vm> vm;
  std::unique_ptr<IrqController> irq;
  std::thread hastening;  // Vm::hasten_grace_period()
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

}  // namespace calf::vmm
