// Registers of the 16550 in the data sheet's words (National PC16550D, section 8.0).
#pragma once

#include <cstdint>

namespace calf::devices {

struct Uart {
  // The same addresses mean different registers when read and written; with DLAB set, 0 and 1 are
  // the divisor latch either way.
  enum Read : uint8_t {
    kReceiverBuffer = 0,
    kInterruptEnableRead = 1,
    kInterruptIdentification = 2,
    kLineControlRead = 3,
    kModemControlRead = 4,
    kLineStatus = 5,
    kModemStatus = 6,
    kScratchRead = 7,
  };
  enum Write : uint8_t {
    kTransmitterHolding = 0,
    kInterruptEnable = 1,
    kFifoControl = 2,
    kLineControl = 3,
    kModemControl = 4,
    kLineStatusWrite = 5,   // factory test only: ignored
    kModemStatusWrite = 6,  // ignored
    kScratch = 7,
  };
  enum DivisorLatch : uint8_t { kDivisorLow = 0, kDivisorHigh = 1 };

  enum InterruptEnableBits : uint8_t {
    kIerReceivedData = 1 << 0,
    kIerTransmitterEmpty = 1 << 1,
    kIerLineStatus = 1 << 2,
    kIerModemStatus = 1 << 3,
    kIerImplemented = 0x0f,
  };
  enum InterruptIdentificationBits : uint8_t {
    kIirModemStatus = 0x00,
    kIirNone = 0x01,
    kIirTransmitterEmpty = 0x02,
    kIirReceivedData = 0x04,
    kIirLineStatus = 0x06,
    kIirCharacterTimeout = 0x0c,
    kIirFifosEnabled = 0xc0,
  };
  enum FifoControlBits : uint8_t {
    kFcrEnable = 1 << 0,
    kFcrResetReceiver = 1 << 1,
    kFcrResetTransmitter = 1 << 2,
    kFcrDmaMode = 1 << 3,
    kFcrTriggerShift = 6,
  };
  enum LineControlBits : uint8_t {
    kLcrSetBreak = 1 << 6,
    kLcrDivisorLatchAccess = 1 << 7,
  };
  enum ModemControlBits : uint8_t {
    kMcrDtr = 1 << 0,
    kMcrRts = 1 << 1,
    kMcrOut1 = 1 << 2,
    kMcrOut2 = 1 << 3,
    kMcrLoop = 1 << 4,
    kMcrImplemented = 0x1f,
  };
  enum LineStatusBits : uint8_t {
    kLsrDataReady = 1 << 0,
    kLsrOverrun = 1 << 1,
    kLsrParity = 1 << 2,
    kLsrFraming = 1 << 3,
    kLsrBreak = 1 << 4,
    kLsrTransmitterHoldingEmpty = 1 << 5,
    kLsrTransmitterEmpty = 1 << 6,
    kLsrErrorInFifo = 1 << 7,
  };
  enum ModemStatusBits : uint8_t {
    kMsrDeltaCts = 1 << 0,
    kMsrDeltaDsr = 1 << 1,
    kMsrTrailingEdgeRi = 1 << 2,
    kMsrDeltaDcd = 1 << 3,
    kMsrCts = 1 << 4,
    kMsrDsr = 1 << 5,
    kMsrRi = 1 << 6,
    kMsrDcd = 1 << 7,
  };
};

}  // namespace calf::devices
