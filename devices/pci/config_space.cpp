#include "devices/pci/config_space.h"

#include <cassert>

namespace calf::pci {

ConfigSpace::ConfigSpace(const Identity& identity) {
  set(kRegVendorId, 2, identity.vendor);
  set(kRegDeviceId, 2, identity.device);
  set(kRegRevision, 1, identity.revision);
  set(kRegClass, 1, identity.class_code & 0xff);
  set(kRegClass + 1, 2, identity.class_code >> 8);
  set(kRegSubsystemVendorId, 2, identity.subsystem_vendor);
  set(kRegSubsystemId, 2, identity.subsystem);
  set_writable(kRegCommand, 2,
               kCommandIo | kCommandMemory | kCommandBusMaster | kCommandParity | kCommandSerr |
                   kCommandIntxDisable);
  set_writable(kRegCacheLineSize, 1, 0xff);
  set_writable(kRegLatencyTimer, 1, 0xff);
  set_writable(kRegInterruptLine, 1, 0xff);
}

uint32_t ConfigSpace::read(unsigned offset, unsigned size) const {
  uint32_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    uint32_t byte = offset + i < kConfigSize ? bytes_[offset + i] : 0xff;
    value |= byte << (8 * i);
  }
  return value;
}

void ConfigSpace::write(unsigned offset, unsigned size, uint32_t value) {
  for (unsigned i = 0; i < size && offset + i < kConfigSize; ++i) {
    uint8_t mask = writable_[offset + i];
    uint8_t byte = static_cast<uint8_t>(value >> (8 * i));
    bytes_[offset + i] = static_cast<uint8_t>((bytes_[offset + i] & ~mask) | (byte & mask));
  }
}

void ConfigSpace::set(unsigned offset, unsigned size, uint32_t value) {
  assert(offset + size <= kConfigSize);
  for (unsigned i = 0; i < size; ++i)
    bytes_[offset + i] = static_cast<uint8_t>(value >> (8 * i));
}

void ConfigSpace::set_writable(unsigned offset, unsigned size, uint32_t mask) {
  assert(offset + size <= kConfigSize);
  for (unsigned i = 0; i < size; ++i)
    writable_[offset + i] = static_cast<uint8_t>(mask >> (8 * i));
}

uint8_t ConfigSpace::add_capability(uint8_t id, std::span<const uint8_t> body) {
  unsigned start = next_capability_;
  assert(start + 2 + body.size() <= kConfigSize);
  set(start, 1, id);
  set(start + 1, 1, 0);
  for (size_t i = 0; i < body.size(); ++i)
    bytes_[start + 2 + i] = body[i];
  set(last_link_, 1, start);
  last_link_ = start + 1;
  // The next one starts at a dword.
  next_capability_ = (start + 2 + static_cast<unsigned>(body.size()) + 3) & ~3u;
  set(kRegStatus, 2, read(kRegStatus, 2) | kStatusCapabilities);
  return static_cast<uint8_t>(start);
}

}  // namespace calf::pci
