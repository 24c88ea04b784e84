#include "vmm/chipset.h"

#include <ctime>

#include "firmware/platform.h"

namespace calf::vmm {
namespace {

constexpr uint8_t kKeyboardIrq = 1;
constexpr uint8_t kMouseIrq = 12;
constexpr uint16_t kKeyboardDataPort = 0x60;
constexpr uint16_t kKeyboardCommandPort = 0x64;
constexpr uint16_t kDebugPort = 0xE9;

// What the guest's clock shows, less the host's.
std::chrono::nanoseconds rtc_offset(const MachineConfig& config, devices::Clock& clock) {
  switch (config.rtc_base) {
    case RtcBase::kUtc:
      return {};
    case RtcBase::kDate:
      return config.rtc_date - clock.wall();
    case RtcBase::kLocalTime:
      break;
  }
  time_t now = std::chrono::duration_cast<std::chrono::seconds>(clock.wall()).count();
  tm local{};
  if (localtime_r(&now, &local) == nullptr) return {};
  return std::chrono::seconds(local.tm_gmtoff);
}

}  // namespace

Result<std::unique_ptr<Chipset>> Chipset::create(const MachineConfig& config,
                                                 const firmware::MemoryMap& map, Parts parts) {
  std::unique_ptr<Chipset> chips(new Chipset);
  devices::Clock& clock = parts.host.clock;
  auto line = [&](uint32_t gsi) -> devices::IrqLine& {
    chips->lines_.push_back(parts.irq.make_line(gsi));
    return *chips->lines_.back();
  };
  TRY_VOID(chips->add_serial(parts));

  chips->pit_ = std::make_unique<LatePit>(parts.irq, parts.timers, parts.host.log);
  TRY_VOID(parts.ports.map({firmware::kPitPort, LatePit::kWindow}, chips->pit_->timer()));
  TRY_VOID(parts.ports.map({firmware::kSpeakerPort, 1}, chips->pit_->speaker()));

  chips->rtc_ = std::make_unique<devices::RtcCmos>(line(firmware::kRtcIrq), parts.timers, clock,
                                                   rtc_offset(config, clock));
  chips->rtc_->set_memory_size(map.ram_below_4g(), map.ram_above_4g());
  TRY_VOID(chips->map(parts.ports, firmware::kRtcPort, devices::RtcCmos::kWindow, *chips->rtc_));

  chips->keyboard_ = std::make_unique<devices::I8042>(parts.control, chips->a20_,
                                                      line(kKeyboardIrq), line(kMouseIrq));
  TRY_VOID(parts.ports.map({kKeyboardDataPort, 1}, chips->keyboard_->data_port()));
  TRY_VOID(parts.ports.map({kKeyboardCommandPort, 1}, chips->keyboard_->command_port()));

  chips->port92_ = std::make_unique<devices::Port92>(parts.control, chips->a20_);
  TRY_VOID(
      chips->map(parts.ports, firmware::kFastResetPort, devices::Port92::kWindow, *chips->port92_));
  // Its port lies inside the PCI host bridge's window, which passes accesses on.
  chips->reset_control_ = std::make_unique<devices::ResetControl>(parts.control);
  chips->resettable_.push_back(chips->reset_control_.get());

  chips->power_ = std::make_unique<devices::AcpiPm>(parts.control, line(firmware::kSciIrq),
                                                    parts.timers, clock);
  TRY_VOID(chips->map(parts.ports, firmware::kPmBase, devices::AcpiPm::kWindow, *chips->power_));
  TRY_VOID(chips->add_debug(config, parts));
  return chips;
}

Result<void> Chipset::map(devices::Bus& ports, uint64_t port, uint64_t count,
                          devices::Device& device) {
  resettable_.push_back(&device);
  return ports.map({port, count}, device);
}

Result<void> Chipset::add_serial(Parts& parts) {
  // COM1 and COM3 share a line, COM2 and COM4 the other.
  std::array<devices::SharedIrq*, 16> shared{};
  for (size_t i = 0; i < serial_.size(); ++i) {
    if (parts.host.serial[i] == nullptr) continue;
    const firmware::IsaPort& where = firmware::kSerialPorts[i];
    if (shared[where.irq] == nullptr) {
      lines_.push_back(parts.irq.make_line(where.irq));
      shared_lines_.push_back(std::make_unique<devices::SharedIrq>(*lines_.back()));
      shared[where.irq] = shared_lines_.back().get();
    }
    serial_[i] = std::make_unique<devices::Uart16550>(
        *parts.host.serial[i], shared[where.irq]->add_input(), parts.timers, parts.host.clock);
    TRY_VOID(map(parts.ports, where.port, devices::Uart16550::kWindow, *serial_[i]));
  }
  return {};
}

Result<void> Chipset::add_debug(const MachineConfig& config, Parts& parts) {
  if (parts.host.debug_port != nullptr) {
    debug_port_ = std::make_unique<devices::DebugPort>(*parts.host.debug_port, parts.timers,
                                                       parts.host.clock);
    TRY_VOID(map(parts.ports, kDebugPort, devices::DebugPort::kWindow, *debug_port_));
  }
  if (config.debug_exit) {
    debug_exit_ = std::make_unique<devices::DebugExit>(parts.control);
    Result<void> mapped =
        map(parts.ports, config.debug_exit->port, config.debug_exit->size, *debug_exit_);
    if (!mapped.ok()) return std::move(mapped.error()).with_context("-device isa-debug-exit");
  }
  if (config.pvpanic) {
    pvpanic_ = std::make_unique<devices::Pvpanic>(parts.control);
    TRY_VOID(map(parts.ports, firmware::kPvpanicPort, devices::Pvpanic::kWindow, *pvpanic_));
  }
  return {};
}

void Chipset::reset() {
  for (devices::Device* device : resettable_)
    device->reset();
  keyboard_->reset();
  pit_->reset();
}

void Chipset::flush() {
  for (auto& port : serial_)
    if (port) port->flush();
  if (debug_port_) debug_port_->flush();
}

uint8_t Chipset::serial_ports() const {
  uint8_t mask = 0;
  for (size_t i = 0; i < serial_.size(); ++i)
    if (serial_[i]) mask = static_cast<uint8_t>(mask | 1u << i);
  return mask;
}

}  // namespace calf::vmm
