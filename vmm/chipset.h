// Chipset: the chips of a PC that are not PCI devices, at their ports and interrupt lines
// (firmware/platform.h says where).
//
// Owns the chips and nothing else; KVM has the PIC, IOAPIC, LAPIC and, from its first use on at the
// latest, the PIT.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "devices/core/bus.h"
#include "devices/core/machine_control.h"
#include "devices/core/shared_irq.h"
#include "devices/legacy/a20_gate.h"
#include "devices/legacy/acpi_pm.h"
#include "devices/legacy/debug_ports.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/reset_ports.h"
#include "devices/legacy/rtc_cmos.h"
#include "devices/legacy/uart16550.h"
#include "firmware/memory_map.h"
#include "vmm/config.h"
#include "vmm/irq.h"
#include "vmm/late_pit.h"
#include "vmm/machine.h"

namespace calf::vmm {

class Chipset {
 public:
  struct Parts {
    devices::Bus& ports;
    IrqController& irq;
    devices::MachineControl& control;
    devices::TimerFactory& timers;
    const HostServices& host;
  };

  // Everything in `parts` outlives the chips. Fails if two of them want one port.
  static Result<std::unique_ptr<Chipset>> create(const MachineConfig& config,
                                                 const firmware::MemoryMap& map, Parts parts);

  // Power-on state. No vCPU runs.
  void reset();
  // Hands all console output to the host.
  void flush();

  // Null if there is no such port.
  devices::Uart16550* serial(size_t index) { return serial_[index].get(); }
  devices::AcpiPm& power() { return *power_; }
  LatePit& timer() { return *pit_; }
  // Answers the byte at port 0xCF9, for the PCI host bridge.
  devices::Device& reset_control() { return *reset_control_; }
  // Bit n: COM(n+1) is there.
  uint8_t serial_ports() const;

 private:
  Chipset() = default;
  Result<void> add_serial(Parts& parts);
  Result<void> add_debug(const MachineConfig& config, Parts& parts);
  Result<void> map(devices::Bus& ports, uint64_t port, uint64_t count, devices::Device& device);

  // In this order: chips use lines.
  std::vector<std::unique_ptr<devices::IrqLine>> lines_;
  std::vector<std::unique_ptr<devices::SharedIrq>> shared_lines_;
  devices::A20Gate a20_;
  std::array<std::unique_ptr<devices::Uart16550>, 4> serial_;
  std::unique_ptr<LatePit> pit_;
  std::unique_ptr<devices::RtcCmos> rtc_;
  std::unique_ptr<devices::I8042> keyboard_;
  std::unique_ptr<devices::Port92> port92_;
  std::unique_ptr<devices::ResetControl> reset_control_;
  std::unique_ptr<devices::AcpiPm> power_;
  std::unique_ptr<devices::DebugPort> debug_port_;
  std::unique_ptr<devices::DebugExit> debug_exit_;
  std::unique_ptr<devices::Pvpanic> pvpanic_;
  std::vector<devices::Device*> resettable_;
};

}  // namespace calf::vmm
