#include "firmware/bios/serial_service.h"

#include <array>

#include "firmware/bios/areas.h"
#include "firmware/bios/port_io.h"

namespace calf::firmware {
namespace {

// Registers of the 16550.
constexpr uint16_t kData = 0;
constexpr uint16_t kDivisorHigh = 1;
constexpr uint16_t kLineControl = 3;
constexpr uint16_t kModemControl = 4;
constexpr uint16_t kLineStatus = 5;
constexpr uint16_t kModemStatus = 6;

constexpr uint8_t kDataReady = 0x01;
constexpr uint8_t kTransmitterEmpty = 0x20;
constexpr uint8_t kTimeout = 0x80;  // of AH
constexpr uint8_t kDivisorLatch = 0x80;

constexpr std::array<uint16_t, 8> kDivisors{1047, 768, 384, 192, 96, 48, 24, 12};  // 110 – 9600

}  // namespace

bool SerialService::handle(Call& call) {
  RealModeRegs& regs = call.regs;
  uint8_t function = regs.ax.high();
  if (function > 0x03) return false;
  unsigned index = regs.dx.word();
  uint16_t port = index < 4 ? memory_.word(bda::kComPorts + 2 * index) : uint16_t{0};
  if (port == 0) {
    regs.ax.set_high(kTimeout);
    return true;
  }
  uint8_t timeout = memory_.byte(bda::kComTimeouts + index);
  switch (function) {
    case 0x00:
      initialise(port, regs.ax.low());
      status(call, port);
      return true;
    case 0x01:  // send
      if (!wait_for(call, port, kTransmitterEmpty, timeout)) return true;
      port_out<uint8_t>(ports_, static_cast<uint16_t>(port + kData), regs.ax.low());
      regs.ax.set_high(port_in<uint8_t>(ports_, static_cast<uint16_t>(port + kLineStatus)) & 0x7F);
      return true;
    case 0x02:  // receive
      if (!wait_for(call, port, kDataReady, timeout)) return true;
      regs.ax.set_low(port_in<uint8_t>(ports_, static_cast<uint16_t>(port + kData)));
      regs.ax.set_high(port_in<uint8_t>(ports_, static_cast<uint16_t>(port + kLineStatus)) & 0x1E);
      return true;
    default:
      status(call, port);
      return true;
  }
}

void SerialService::initialise(uint16_t port, uint8_t parameters) {
  uint16_t divisor = kDivisors[parameters >> 5];
  auto line_control = static_cast<uint8_t>(parameters & 0x1F);  // the 16550's own encoding
  auto reg = [&](uint16_t offset, uint8_t value) {
    port_out<uint8_t>(ports_, static_cast<uint16_t>(port + offset), value);
  };
  reg(kLineControl, kDivisorLatch | line_control);
  reg(kData, static_cast<uint8_t>(divisor));
  reg(kDivisorHigh, static_cast<uint8_t>(divisor >> 8));
  reg(kLineControl, line_control);
  reg(kModemControl, 0x03);  // DTR, RTS
}

bool SerialService::wait_for(Call& call, uint16_t port, uint8_t bits, uint8_t timeout_seconds) {
  auto line = port_in<uint8_t>(ports_, static_cast<uint16_t>(port + kLineStatus));
  if (line & bits) {
    deadlines_.forget(call);
    return true;
  }
  auto rest = deadlines_.left(call, std::chrono::seconds(timeout_seconds));
  if (rest > rest.zero()) {
    call.flow = Flow::kWait;
  } else {
    call.regs.ax.set_high(kTimeout | (line & 0x7F));
  }
  return false;
}

void SerialService::status(Call& call, uint16_t port) {
  call.regs.ax.set_high(port_in<uint8_t>(ports_, static_cast<uint16_t>(port + kLineStatus)));
  call.regs.ax.set_low(port_in<uint8_t>(ports_, static_cast<uint16_t>(port + kModemStatus)));
}

}  // namespace calf::firmware
