// GuestBoot: the firmware's part of power-on. Fills guest memory and says where the first vCPU
// begins; once at the start and again after each reset.
//
//     -kernel:  tables, kernel, initrd, command line -> the kernel's entry point
//     a disk:   tables, BIOS areas, boot sector      -> 0000:7C00
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/core/guest_memory.h"
#include "firmware/bios/bios.h"
#include "firmware/memory_map.h"
#include "firmware/tables.h"
#include "vmm/bios_trap.h"
#include "vmm/chipset.h"
#include "vmm/config.h"
#include "vmm/disk.h"
#include "vmm/irq.h"
#include "vmm/kernel_file.h"
#include "vmm/machine.h"
#include "vmm/pci_devices.h"
#include "vmm/run_state.h"
#include "vmm/vcpu_setup.h"

namespace calf::vmm {

class GuestBoot {
 public:
  struct Parts {
    const firmware::MemoryMap& map;
    const devices::GuestMemory& memory;
    devices::Bus& ports;
    IrqController& irq;
    Chipset& chipset;
    RunState& run_state;
    std::vector<std::unique_ptr<Disk>>& disks;  // open
    const HostServices& host;
    const PciDevices& pci;
    std::future<Result<KernelFile>>& first_kernel;  // valid with -kernel
  };

  // `config` and `parts` outlive this object.
  static Result<std::unique_ptr<GuestBoot>> create(const MachineConfig& config, Parts parts);

  // `first` is in its power-on state, as are the chips. No vCPU runs. Errors say why the guest
  // cannot be started and what to do.
  Result<void> power_on(kvm::Vcpu& first, const VcpuTemplate& initial);

  // Answers BIOS calls; null if the guest started without a BIOS.
  ExitHandler* bios_handler() { return trap_ ? &*trap_ : nullptr; }
  bool starts_boot_sector() const { return config_.kernel.empty(); }

 private:
  // INT 16h reads what was typed at the serial console.
  class ConsoleKeys final : public firmware::KeySource {
   public:
    explicit ConsoleKeys(devices::Uart16550* port) : port_(port) {}
    std::optional<uint8_t> take() override;

   private:
    devices::Uart16550* port_;  // may be null
  };

  GuestBoot(const MachineConfig& config, Parts parts);
  Result<firmware::FirmwareTables> make_tables() const;
  void make_bios();
  Result<void> set_up_chips();
  Result<void> start_kernel(kvm::Vcpu& first, const VcpuTemplate& initial);
  Result<void> start_boot_sector(kvm::Vcpu& first, const VcpuTemplate& initial);

  const MachineConfig& config_;
  Parts parts_;
  firmware::FirmwareTables tables_;
  ConsoleKeys keys_;
  std::unique_ptr<firmware::Bios> bios_;
  std::optional<BiosTrap> trap_;
};

// Indices of the disks in the order in which booting is tried: those with a boot index first, then
// by the letters of -boot.
std::vector<size_t> boot_sequence(const MachineConfig& config);

}  // namespace calf::vmm
