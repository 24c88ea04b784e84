#include "devices/pci/host_bridge.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace calf::pci {
namespace {

uint64_t load(std::span<const uint8_t> data) {
  uint64_t value = 0;
  for (size_t i = 0; i < data.size() && i < 8; ++i)
    value |= uint64_t{data[i]} << (8 * i);
  return value;
}

void store(std::span<uint8_t> data, uint64_t value) {
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = i < 8 ? static_cast<uint8_t>(value >> (8 * i)) : uint8_t{0xff};
}

// A bridge without registers of its own. The identity is one that no kernel has a quirk for.
constexpr Identity kBridgeIdentity = {.vendor = 0x1b36,
                                      .device = 0x0008,
                                      .subsystem_vendor = 0x1af4,
                                      .subsystem = 0x1100,
                                      .class_code = 0x060000,
                                      .revision = 0};

}  // namespace

class HostBridge::BridgeFunction final : public Function {
 public:
  BridgeFunction() : Function(kBridgeIdentity) {}

 private:
  void reset_device() override {}
};

// Ports 0xCF8 to 0xCFF. Only a dword write to the first sets the address; narrower accesses there
// belong to whatever else sits on these ports (the reset control register).
class HostBridge::ConfigPorts final : public devices::Device {
 public:
  explicit ConfigPorts(HostBridge& bridge) : bridge_(&bridge) {}

  void read(uint64_t offset, std::span<uint8_t> data) override {
    if (offset < 4) {
      if (offset == 0 && data.size() == 4) {
        std::lock_guard lock(mutex_);
        store(data, address_);
      } else if (is_reset_control(offset, data.size())) {
        bridge_->options_.reset_control->read(0, data);
      } else {
        std::fill(data.begin(), data.end(), uint8_t{0xff});
      }
      return;
    }
    std::optional<Target> target = decode(offset - 4, data.size());
    store(data, target ? bridge_->read_config(target->address, target->offset,
                                              static_cast<unsigned>(data.size()))
                       : UINT64_MAX);
  }

  void write(uint64_t offset, std::span<const uint8_t> data) override {
    if (offset < 4) {
      if (offset == 0 && data.size() == 4) {
        std::lock_guard lock(mutex_);
        address_ = static_cast<uint32_t>(load(data)) & 0x80fffffc;
      } else if (is_reset_control(offset, data.size())) {
        bridge_->options_.reset_control->write(0, data);
      }
      return;
    }
    if (std::optional<Target> target = decode(offset - 4, data.size())) {
      bridge_->write_config(target->address, target->offset, static_cast<unsigned>(data.size()),
                            static_cast<uint32_t>(load(data)));
    }
  }

  void reset() override {
    std::lock_guard lock(mutex_);
    address_ = 0;
  }

 private:
  struct Target {
    Address address;
    unsigned offset;
  };
  bool is_reset_control(uint64_t offset, size_t size) const {
    return offset == 1 && size == 1 && bridge_->options_.reset_control != nullptr;
  }
  std::optional<Target> decode(uint64_t byte, size_t size) {
    uint32_t latched = 0;
    {
      std::lock_guard lock(mutex_);
      latched = address_;
    }
    if ((latched & kConfigAddressEnable) == 0) return std::nullopt;
    if (!std::has_single_bit(size) || byte > 3 || size > 4 - byte) return std::nullopt;
    Address address = {static_cast<uint8_t>(latched >> 16),
                       static_cast<uint8_t>(latched >> 11 & 31),
                       static_cast<uint8_t>(latched >> 8 & 7)};
    return Target{address, static_cast<unsigned>((latched & 0xfc) + byte)};
  }

  HostBridge* bridge_;
  std::mutex mutex_;
  uint32_t address_ = 0;
};

class HostBridge::Ecam final : public devices::Device {
 public:
  explicit Ecam(HostBridge& bridge) : bridge_(&bridge) {}

  void read(uint64_t offset, std::span<uint8_t> data) override {
    unsigned step = step_of(offset, data.size());
    for (size_t done = 0; done < data.size(); done += step, offset += step) {
      store(data.subspan(done, step), bridge_->read_config(address(offset), reg(offset), step));
    }
  }
  void write(uint64_t offset, std::span<const uint8_t> data) override {
    unsigned step = step_of(offset, data.size());
    for (size_t done = 0; done < data.size(); done += step, offset += step) {
      bridge_->write_config(address(offset), reg(offset), step,
                            static_cast<uint32_t>(load(data.subspan(done, step))));
    }
  }

 private:
  // An aligned qword is two dwords; anything odd (an access cut at a page's end) goes byte by byte.
  static unsigned step_of(uint64_t offset, size_t size) {
    if (offset % size != 0 || !std::has_single_bit(size)) return 1;
    return static_cast<unsigned>(std::min<size_t>(size, 4));
  }
  static Address address(uint64_t offset) {
    return {static_cast<uint8_t>(offset >> kEcamBusShift),
            static_cast<uint8_t>(offset >> kEcamDeviceShift & 31),
            static_cast<uint8_t>(offset >> kEcamFunctionShift & 7)};
  }
  static unsigned reg(uint64_t offset) { return static_cast<unsigned>(offset & 0xfff); }

  HostBridge* bridge_;
};

HostBridge::HostBridge(Options options)
    : options_(std::move(options)),
      decoder_(*options_.mmio, options_.doorbells, *options_.log),
      bridge_(std::make_unique<BridgeFunction>()),
      config_ports_(std::make_unique<ConfigPorts>(*this)),
      ecam_(std::make_unique<Ecam>(*this)) {
  for (const IntxInput& input : options_.intx)
    wires_.push_back(std::make_unique<IntxWire>(*input.line));
  functions_[0] = bridge_.get();
  bridge_->attach(decoder_, nullptr);
}

HostBridge::~HostBridge() = default;

devices::Device& HostBridge::config_ports() {
  return *config_ports_;
}
devices::Device& HostBridge::ecam() {
  return *ecam_;
}

Result<Address> HostBridge::add(Function& function, std::optional<uint8_t> device) {
  std::lock_guard lock(mutex_);
  if (!device) {
    auto free = std::find(functions_.begin(), functions_.end(), nullptr);
    if (free == functions_.end()) {
      return make_error(ErrorKind::kResource, "all {} places on PCI bus 0 are taken", kDeviceCount);
    }
    device = static_cast<uint8_t>(free - functions_.begin());
  }
  if (*device >= kDeviceCount) {
    return make_error(ErrorKind::kInvalid, "PCI bus 0 has no device {} (0 to {})", *device,
                      kDeviceCount - 1);
  }
  if (functions_[*device] != nullptr) {
    return make_error(ErrorKind::kExists, "PCI device {} is already there", *device);
  }
  functions_[*device] = &function;
  bool wired = function.has_intx() && !wires_.empty();
  function.attach(decoder_, wired ? wires_[*device % wires_.size()].get() : nullptr);
  return Address{0, *device, 0};
}

uint32_t HostBridge::read_config(Address address, unsigned offset, unsigned size) {
  assert(size == 1 || size == 2 || size == 4);
  constexpr uint32_t kNothing = UINT32_MAX;
  bool exists = address.bus == 0 && address.device < kDeviceCount && address.function == 0;
  if (!exists || offset >= kConfigSize || offset % 4 + size > 4) return kNothing;
  std::lock_guard lock(mutex_);
  Function* function = functions_[address.device];
  return function == nullptr ? kNothing : function->read_config(offset, size);
}

void HostBridge::write_config(Address address, unsigned offset, unsigned size, uint32_t value) {
  assert(size == 1 || size == 2 || size == 4);
  bool exists = address.bus == 0 && address.device < kDeviceCount && address.function == 0;
  if (!exists || offset >= kConfigSize || offset % 4 + size > 4) return;
  std::lock_guard lock(mutex_);
  if (Function* function = functions_[address.device]) {
    function->write_config(offset, size, value);
  }
}

std::optional<uint8_t> HostBridge::intx_gsi(uint8_t device) const {
  if (options_.intx.empty()) return std::nullopt;
  return options_.intx[device % options_.intx.size()].gsi;
}

std::vector<HostBridge::IntxRoute> HostBridge::intx_routes() const {
  std::lock_guard lock(mutex_);
  std::vector<IntxRoute> routes;
  for (uint8_t device = 0; device < kDeviceCount; ++device) {
    std::optional<uint8_t> gsi = intx_gsi(device);
    if (functions_[device] != nullptr && functions_[device]->has_intx() && gsi) {
      routes.push_back({{0, device, 0}, *gsi});
    }
  }
  return routes;
}

Result<void> HostBridge::assign_resources(ByteRange window32, ByteRange window64) {
  std::lock_guard lock(mutex_);
  if (!make_range(window32.offset, window32.length) || window32.end() > uint64_t{1} << 32 ||
      !make_range(window64.offset, window64.length)) {
    return make_error(ErrorKind::kInvalid, "the PCI windows wrap around or the first is above 4G");
  }
  window32_ = window32;
  window64_ = window64;
  decoder_.set_windows(window32, window64);
  return place_bars();
}

Result<void> HostBridge::place_bars() {
  struct Placement {
    Function* function;
    Bar* bar;
  };
  std::vector<Placement> placements;
  for (Function* function : functions_) {
    if (function == nullptr) continue;
    for (auto& bar : function->bars())
      placements.push_back({function, bar.get()});
  }
  // Largest first: no gaps, as sizes are powers of two.
  std::stable_sort(placements.begin(), placements.end(),
                   [](const auto& a, const auto& b) { return a.bar->size > b.bar->size; });
  auto take = [](ByteRange& window, uint64_t size) -> std::optional<uint64_t> {
    uint64_t skip = (size - window.offset % size) % size;
    if (window.length < skip || window.length - skip < size) return std::nullopt;
    uint64_t at = window.offset + skip;
    window = {at + size, window.length - skip - size};
    return at;
  };
  ByteRange low = window32_;
  ByteRange high = window64_;
  for (const Placement& p : placements) {
    std::optional<uint64_t> at = take(low, p.bar->size);
    if (!at && p.bar->kind == BarKind::kMemory64) at = take(high, p.bar->size);
    if (!at) {
      return make_error(ErrorKind::kResource, "the PCI window has no room for a BAR of {:#x} bytes",
                        p.bar->size);
    }
    unsigned reg = kRegBar0 + 4u * p.bar->index;
    p.function->write_config(reg, 4, static_cast<uint32_t>(*at));
    if (p.bar->kind == BarKind::kMemory64) {
      p.function->write_config(reg + 4, 4, static_cast<uint32_t>(*at >> 32));
    }
  }
  for (uint8_t device = 0; device < kDeviceCount; ++device) {
    Function* function = functions_[device];
    if (function == nullptr) continue;
    if (std::optional<uint8_t> gsi = intx_gsi(device); gsi && function->has_intx()) {
      function->write_config(kRegInterruptLine, 1, *gsi);
    }
    if (!function->bars().empty()) function->write_config(kRegCommand, 2, kCommandMemory);
  }
  return {};
}

Result<void> HostBridge::reset() {
  config_ports_->reset();
  std::lock_guard lock(mutex_);
  for (Function* function : functions_) {
    if (function != nullptr) function->reset();
  }
  return place_bars();
}

}  // namespace calf::pci
