#include "devices/pci/msix.h"

#include <cassert>

namespace calf::pci {

Result<std::unique_ptr<Msix>> Msix::create(devices::MsiController& controller, uint16_t vectors,
                                           Log& log) {
  assert(vectors >= 1 && vectors <= kMaxVectors);
  std::vector<Entry> entries(vectors);
  for (Entry& entry : entries) {
    TRY(entry.route, controller.make_route());
  }
  return std::unique_ptr<Msix>(new Msix(std::move(entries), log));
}

uint8_t Msix::add_capability(ConfigSpace& config, uint8_t bar, uint32_t table_offset,
                             uint32_t pba_offset) const {
  uint8_t body[kMsixCapSize - 2] = {};
  uint8_t at = config.add_capability(kCapMsix, body);
  config.set(at + kMsixCapControl, 2, static_cast<uint32_t>(entries_.size() - 1));
  config.set_writable(at + kMsixCapControl, 2, kMsixControlFunctionMask | kMsixControlEnable);
  config.set(at + kMsixCapTable, 4, table_offset | bar);
  config.set(at + kMsixCapPba, 4, pba_offset | bar);
  return at;
}

void Msix::set_control(uint16_t control) {
  std::lock_guard lock(mutex_);
  enabled_ = (control & kMsixControlEnable) != 0;
  function_masked_ = (control & kMsixControlFunctionMask) != 0;
  for (Entry& entry : entries_)
    settle(entry);
}

bool Msix::enabled() const {
  std::lock_guard lock(mutex_);
  return enabled_;
}

void Msix::read_table(uint64_t offset, std::span<uint8_t> data) const {
  std::lock_guard lock(mutex_);
  for (uint8_t& byte : data) {
    uint64_t index = offset / kMsixEntrySize;
    uint64_t within = offset % kMsixEntrySize;
    byte = index < entries_.size()
               ? static_cast<uint8_t>(entries_[index].words[within / 4] >> (8 * (within % 4)))
               : uint8_t{0};
    ++offset;
  }
}

void Msix::write_table(uint64_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  // Table accesses are aligned dwords or qwords (6.8.2); others change nothing.
  if (data.size() < 4 || data.size() > 8 || offset % 4 != 0 || data.size() % 4 != 0) return;
  for (size_t i = 0; i < data.size(); i += 4, offset += 4) {
    uint64_t index = offset / kMsixEntrySize;
    if (index >= entries_.size()) return;
    Entry& entry = entries_[index];
    uint64_t word = offset % kMsixEntrySize / 4;
    uint32_t value = uint32_t{data[i]} | uint32_t{data[i + 1]} << 8 | uint32_t{data[i + 2]} << 16 |
                     uint32_t{data[i + 3]} << 24;
    entry.words[word] = word == 3 ? value & kMsixEntryMasked : value;
    settle(entry);
  }
}

void Msix::read_pba(uint64_t offset, std::span<uint8_t> data) const {
  std::lock_guard lock(mutex_);
  for (uint8_t& byte : data) {
    byte = 0;
    for (uint64_t bit = 0; bit < 8; ++bit) {
      uint64_t vector = offset * 8 + bit;
      if (offset < pba_size() && vector < entries_.size() && entries_[vector].pending) {
        byte = static_cast<uint8_t>(byte | 1u << bit);
      }
    }
    ++offset;
  }
}

void Msix::trigger(uint16_t vector) {
  std::lock_guard lock(mutex_);
  if (!enabled_ || vector >= entries_.size()) return;
  Entry& entry = entries_[vector];
  entry.pending = true;
  settle(entry);
}

// Delivers what is pending and no longer masked.
void Msix::settle(Entry& entry) {
  if (!enabled_ || function_masked_ || entry.masked()) return;
  uint64_t address = uint64_t{entry.words[1]} << 32 | entry.words[0];
  uint32_t data = entry.words[2];
  if (!entry.has_message || entry.routed_address != address || entry.routed_data != data) {
    entry.has_message = true;
    entry.routed_address = address;
    entry.routed_data = data;
    Result<void> set = entry.route->set_message(address, data);
    if (!set.ok() && log_limit_.allow()) {
      log_->warning("MSI-X message to {:#x} cannot be routed: {}", address, set.error().message());
    }
  }
  if (entry.pending) {
    entry.pending = false;
    entry.route->trigger();
  }
}

void Msix::reset() {
  std::lock_guard lock(mutex_);
  enabled_ = false;
  function_masked_ = false;
  for (Entry& entry : entries_) {
    entry.words[0] = entry.words[1] = entry.words[2] = 0;
    entry.words[3] = kMsixEntryMasked;
    entry.pending = false;
  }
}

}  // namespace calf::pci
