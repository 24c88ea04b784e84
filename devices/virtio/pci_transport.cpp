#include "devices/virtio/pci_transport.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace calf::virtio {
namespace {

constexpr uint8_t kBar = 0;
constexpr uint64_t kBarSize = 0x8000;
constexpr uint64_t kRegion = 0x1000;
constexpr uint64_t kCommonOffset = 0x0000;
constexpr uint64_t kIsrOffset = 0x1000;
constexpr uint64_t kDeviceOffset = 0x2000;
constexpr uint64_t kNotifyOffset = 0x3000;
constexpr uint64_t kMsixTableOffset = 0x4000;
constexpr uint64_t kMsixPbaOffset = 0x5000;
constexpr uint32_t kNotifyMultiplier = 4;
static_assert(pci::Msix::kMaxVectors * pci::kMsixEntrySize <= kRegion);

pci::Identity identity_of(const Device& device) {
  return {.vendor = kPciVendor,
          .device = static_cast<uint16_t>(kPciDeviceBase + device.type()),
          .subsystem_vendor = kPciVendor,
          .subsystem = 0x1100,
          .class_code = device.pci_class(),
          .revision = kPciRevision};
}

template <class T>
std::span<const uint8_t> bytes_of(const T& object) {
  return {reinterpret_cast<const uint8_t*>(&object), sizeof object};
}

PciCapability capability(PciCapabilityType type, size_t length, uint64_t offset, uint64_t size) {
  PciCapability cap;
  cap.length = static_cast<uint8_t>(length + 2);  // with id and link
  cap.type = type;
  cap.bar = kBar;
  cap.offset = static_cast<uint32_t>(offset);
  cap.size = static_cast<uint32_t>(size);
  return cap;
}

}  // namespace

void PciTransport::Registers::read(uint64_t offset, std::span<uint8_t> data) {
  transport_->read_bar(offset, data);
}
void PciTransport::Registers::write(uint64_t offset, std::span<const uint8_t> data) {
  transport_->write_bar(offset, data);
}

Result<std::unique_ptr<PciTransport>> PciTransport::create(Options options) {
  pci::Identity identity = identity_of(*options.device);
  std::unique_ptr<PciTransport> transport(new PciTransport(std::move(options), identity));
  TRY_VOID(transport->open());
  return transport;
}

PciTransport::PciTransport(Options options, const pci::Identity& identity)
    : Function(identity), options_(std::move(options)), registers_(*this) {}

PciTransport::~PciTransport() {
  assert(phase_ == Phase::kStopped);
}

Result<void> PciTransport::open() {
  uint16_t count = options_.device->queue_count();
  assert(count >= 1 && count < pci::Msix::kMaxVectors);
  pci::Bar bar;
  bar.index = kBar;
  bar.kind = pci::BarKind::kMemory64;
  bar.prefetchable = true;
  bar.size = kBarSize;
  bar.device = &registers_;
  for (uint16_t i = 0; i < count; ++i) {
    auto queue = std::make_unique<QueueState>();
    queue->kick.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!queue->kick.valid()) return Error::from_errno(errno, options_.id + ": eventfd");
    bar.doorbells.push_back(
        {kNotifyOffset + kNotifyMultiplier * uint64_t{i}, 0, queue->kick.get()});
    queues_.push_back(std::move(queue));
  }
  add_bar(std::move(bar));
  use_intx();
  if (options_.msi != nullptr) {
    // One vector per queue and one for configuration changes: no driver has to share.
    uint16_t vectors = static_cast<uint16_t>(count + 1);
    TRY(auto msix, pci::Msix::create(*options_.msi, vectors, *options_.log));
    add_msix(std::move(msix), kBar, kMsixTableOffset, kMsixPbaOffset);
  }
  add_capabilities();
  std::lock_guard lock(mutex_);
  clear_state();
  return {};
}

void PciTransport::add_capabilities() {
  auto add = [this](std::span<const uint8_t> body) {
    return config().add_capability(pci::kCapVendor, body);
  };
  constexpr size_t kPlain = sizeof(PciCapability);
  add(bytes_of(capability(kPciCapCommon, kPlain, kCommonOffset, sizeof(CommonConfig))));
  add(bytes_of(capability(kPciCapIsr, kPlain, kIsrOffset, 1)));
  add(bytes_of(capability(kPciCapDevice, kPlain, kDeviceOffset, kRegion)));
  PciNotifyCapability notify;
  notify.cap = capability(kPciCapNotify, sizeof notify, kNotifyOffset,
                          uint64_t{kNotifyMultiplier} * queues_.size());
  notify.offset_multiplier = kNotifyMultiplier;
  add(bytes_of(notify));

  PciCfgCapability access;
  access.cap = capability(kPciCapPciCfg, sizeof access, 0, 0);
  pci_cfg_capability_ = add(bytes_of(access));
  config().set_writable(pci_cfg_capability_ + kPciCfgBar, 1, 0xff);
  config().set_writable(pci_cfg_capability_ + kPciCfgOffset, 4, UINT32_MAX);
  config().set_writable(pci_cfg_capability_ + kPciCfgLength, 4, UINT32_MAX);
  config().set_writable(pci_cfg_capability_ + kPciCfgData, 4, UINT32_MAX);
}

// The window of the PCI configuration access capability, if (offset, size) touches its data and the
// driver set it to something that exists (4.1.4.9).
std::optional<PciTransport::Window> PciTransport::cfg_window(unsigned offset, unsigned size) {
  unsigned data = pci_cfg_capability_ + kPciCfgData;
  if (offset >= data + 4 || offset + size <= data) return std::nullopt;
  uint32_t bar = config().read(pci_cfg_capability_ + kPciCfgBar, 1);
  uint32_t at = config().read(pci_cfg_capability_ + kPciCfgOffset, 4);
  uint32_t length = config().read(pci_cfg_capability_ + kPciCfgLength, 4);
  bool valid_length = length == 1 || length == 2 || length == 4;
  if (bar != kBar || !valid_length || at % length != 0 || at >= kBarSize) return std::nullopt;
  return Window{at, length};
}

void PciTransport::before_config_read(unsigned offset, unsigned size) {
  std::optional<Window> window = cfg_window(offset, size);
  if (!window) return;
  uint8_t bytes[4] = {};
  read_bar(window->offset, std::span(bytes).first(window->length));
  for (unsigned i = 0; i < window->length; ++i)
    config().set(pci_cfg_capability_ + kPciCfgData + i, 1, bytes[i]);
}

void PciTransport::after_config_write(unsigned offset, unsigned size) {
  std::optional<Window> window = cfg_window(offset, size);
  if (!window) return;
  uint8_t bytes[4] = {};
  for (unsigned i = 0; i < window->length; ++i) {
    bytes[i] = static_cast<uint8_t>(config().read(pci_cfg_capability_ + kPciCfgData + i, 1));
  }
  write_bar(window->offset, std::span(bytes).first(window->length));
}

void PciTransport::read_bar(uint64_t offset, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0});
  uint64_t within = offset % kRegion;
  switch (offset - within) {
    case kCommonOffset:
      return read_common(within, data);
    case kIsrOffset:
      if (within == 0 && !data.empty()) data[0] = take_isr();
      return;
    case kDeviceOffset:
      return options_.device->read_config(within, data);
    case kMsixTableOffset:
      if (msix() != nullptr) msix()->read_table(within, data);
      return;
    case kMsixPbaOffset:
      if (msix() != nullptr) msix()->read_pba(within, data);
      return;
    default:
      return;
  }
}

void PciTransport::write_bar(uint64_t offset, std::span<const uint8_t> data) {
  uint64_t within = offset % kRegion;
  switch (offset - within) {
    case kCommonOffset:
      return write_common(within, data);
    case kDeviceOffset:
      return options_.device->write_config(within, data);
    case kNotifyOffset:
      return kick(within);
    case kMsixTableOffset:
      if (msix() != nullptr) msix()->write_table(within, data);
      return;
    default:
      return;
  }
}

// What the doorbell does when it is attached, as it is from here on if the host can.
void PciTransport::kick(uint64_t notify_offset) {
  uint64_t queue = notify_offset / kNotifyMultiplier;
  if (queue >= queues_.size()) return;
  if (!rung_.exchange(true)) attach_doorbells();
  uint64_t one = 1;
  // Fails only if the counter is full: then it is signalled as much as can be.
  [[maybe_unused]] ssize_t n = ::write(queues_[queue]->kick.get(), &one, sizeof one);
}

uint8_t PciTransport::take_isr() {
  std::lock_guard lock(isr_mutex_);
  uint8_t isr = std::exchange(isr_, uint8_t{0});
  set_intx(false);
  return isr;
}

void PciTransport::interrupt(uint16_t vector, uint8_t isr_bit) {
  if (msix() != nullptr && msix()->enabled()) {
    if (vector != kNoVector) msix()->trigger(vector);
    return;
  }
  std::lock_guard lock(isr_mutex_);
  isr_ |= isr_bit;
  set_intx(true);
}

void PciTransport::used_buffers(uint16_t queue) {
  interrupt(queues_[queue]->vector.load(std::memory_order_relaxed), kIsrQueue);
}

void PciTransport::configuration_changed() {
  interrupt(config_vector_.load(std::memory_order_relaxed), kIsrConfig);
}

void PciTransport::needs_reset(std::string_view why) {
  if (log_limit_.allow()) {
    options_.log->warning("{}: the guest's driver made an error, the device waits for a reset: {}",
                          options_.id, why);
  }
  {
    std::lock_guard lock(mutex_);
    if (phase_ != Phase::kRunning) return;
    status_ |= kStatusNeedsReset;
  }
  configuration_changed();
}

void PciTransport::stop() {
  std::unique_lock lock(mutex_);
  if (phase_ == Phase::kRunning) {
    phase_ = Phase::kResetting;
    lock.unlock();
    options_.device->reset([this] { finish_reset(); });
    lock.lock();
  }
  stopped_.wait(lock, [this] { return phase_ == Phase::kStopped; });
}

void PciTransport::reset_device() {
  stop();
  {
    std::lock_guard lock(mutex_);
    clear_state();
  }
  rung_ = false;
  take_isr();
}

}  // namespace calf::virtio
