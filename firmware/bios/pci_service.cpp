#include "firmware/bios/pci_service.h"

#include "firmware/bios/port_io.h"
#include "firmware/platform.h"

namespace calf::firmware {
namespace {

constexpr uint8_t kBadVendor = 0x83;
constexpr uint8_t kDeviceNotFound = 0x86;
constexpr uint8_t kBadRegister = 0x87;

constexpr uint8_t kVendor = 0x00;
constexpr uint8_t kClassAndRevision = 0x08;
constexpr uint8_t kHeaderType = 0x0E;
constexpr uint8_t kMultiFunction = 0x80;
constexpr uint16_t kNoVendor = 0xFFFF;

constexpr uint16_t kPciDataPort = kPciConfigPort + 4;

}  // namespace

bool PciService::handle(Call& call) {
  RealModeRegs& regs = call.regs;
  switch (regs.ax.low()) {
    case 0x01:                      // present
      regs.dx.set_all(0x20494350);  // "PCI "
      regs.ax.set_low(0x01);        // mechanism 1
      regs.bx.set_word(0x0210);
      regs.cx.set_low(0);  // last bus
      regs.di.set_all(0);  // no 32-bit entry
      call.succeed();
      return true;
    case 0x02: {
      if (regs.dx.word() == kNoVendor) {
        call.fail(kBadVendor);
        return true;
      }
      uint32_t id = uint32_t{regs.cx.word()} << 16 | regs.dx.word();
      find(call, regs.si.word(), [&](uint8_t f) { return read(f, kVendor, 4) == id; });
      return true;
    }
    case 0x03: {
      uint32_t code = regs.cx.all() & 0xFFFFFF;
      find(call, regs.si.word(),
           [&](uint8_t f) { return read(f, kClassAndRevision, 4) >> 8 == code; });
      return true;
    }
    case 0x08:
    case 0x09:
    case 0x0A:
      access(call, 1u << (regs.ax.low() - 0x08), false);
      return true;
    case 0x0B:
    case 0x0C:
    case 0x0D:
      access(call, 1u << (regs.ax.low() - 0x0B), true);
      return true;
    default:
      return false;
  }
}

uint32_t PciService::address(uint8_t function, uint8_t offset) const {
  constexpr uint32_t kEnable = 1u << 31;
  return kEnable | uint32_t{function} << 8 | (offset & 0xFCu);
}

uint32_t PciService::read(uint8_t function, uint8_t offset, unsigned size) {
  port_out<uint32_t>(ports_, kPciConfigPort, address(function, offset));
  auto port = static_cast<uint16_t>(kPciDataPort + (offset & 3));
  if (size == 1) return port_in<uint8_t>(ports_, port);
  if (size == 2) return port_in<uint16_t>(ports_, port);
  return port_in<uint32_t>(ports_, port);
}

void PciService::write(uint8_t function, uint8_t offset, unsigned size, uint32_t value) {
  port_out<uint32_t>(ports_, kPciConfigPort, address(function, offset));
  auto port = static_cast<uint16_t>(kPciDataPort + (offset & 3));
  if (size == 1) return port_out<uint8_t>(ports_, port, static_cast<uint8_t>(value));
  if (size == 2) return port_out<uint16_t>(ports_, port, static_cast<uint16_t>(value));
  port_out<uint32_t>(ports_, port, value);
}

void PciService::find(Call& call, unsigned index,
                      const std::function<bool(uint8_t function)>& matches) {
  constexpr unsigned kFunctions = 256;
  bool multi = false;
  for (unsigned f = 0; f < kFunctions; ++f) {
    auto function = static_cast<uint8_t>(f);
    if (f % 8 != 0 && !multi) continue;
    bool present = read(function, kVendor, 2) != kNoVendor;
    if (f % 8 == 0) multi = present && (read(function, kHeaderType, 1) & kMultiFunction);
    if (!present || !matches(function) || index-- > 0) continue;
    call.regs.bx.set_word(function);  // bus 0
    return call.succeed();
  }
  call.fail(kDeviceNotFound);
}

void PciService::access(Call& call, unsigned size, bool writes) {
  RealModeRegs& regs = call.regs;
  uint32_t offset = regs.di.word();
  if (offset > 0xFF || offset % size != 0) return call.fail(kBadRegister);
  bool other_bus = regs.bx.high() != 0;
  uint8_t function = regs.bx.low();
  auto at = static_cast<uint8_t>(offset);
  if (writes) {
    if (!other_bus) write(function, at, size, regs.cx.all());
    return call.succeed();
  }
  uint32_t value = other_bus ? 0xFFFFFFFF : read(function, at, size);
  if (size == 1) regs.cx.set_low(value);
  if (size == 2) regs.cx.set_word(value);
  if (size == 4) regs.cx.set_all(value);
  call.succeed();
}

}  // namespace calf::firmware
