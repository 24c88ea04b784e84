// Uart16550: a serial port chip as on every PC (National PC16550D data sheet).
//
//   guest ── THR ──► SerialOutput (64 KiB) ──► ByteChannel
//   guest ◄─ RBR ──  FIFO (16) ◄── line (4 KiB) ◄── ByteChannel
//
// The transmitter is infinitely fast: a byte has left as soon as it is written, as long as the
// output buffer has room; THRE goes away only when it has not. The "line" holds bytes that have
// not reached the receiver FIFO yet, so a fast sender never overruns the chip; a FIFO reset clears
// the FIFO, not the line.
//
// The receiver's character timeout is not timed: if fewer bytes than the trigger level are there,
// and none follow on the line, the timeout interrupt is raised at once.
//
// OUT2 gates the interrupt output, as the wiring of every ISA card does.
//
// Not supported: DMA modes, real baud rates (the divisor is remembered), parity and framing errors
// (there is no line that could cause them), sending break to the channel.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>

#include "block/base/mutex.h"
#include "devices/core/device.h"
#include "devices/core/irq.h"
#include "devices/legacy/serial_output.h"
#include "devices/legacy/uart16550_regs.h"

namespace calf::devices {

class Uart16550 final : public ByteDevice {
 public:
  static constexpr uint64_t kWindow = 8;
  static constexpr size_t kFifoDepth = 16;
  static constexpr size_t kLineCapacity = 4096;

  // All outlive the chip; the channel makes no more calls when the chip is destroyed.
  Uart16550(ByteChannel& channel, IrqLine& irq, TimerFactory& timers, Clock& clock);

  uint8_t read_byte(uint64_t offset) override;
  void write_byte(uint64_t offset, uint8_t value) override;

  // Back to power-on. Bytes on the line and in the output buffer stay.
  void reset() override;

  // The firmware's way to the same bytes: keyboard services read the serial console, and whoever
  // asks first gets the byte. Any thread.
  std::optional<uint8_t> peek_received();
  std::optional<uint8_t> take_received();
  // Sends as the guest does, without interrupts. Bytes beyond the buffer are dropped and counted.
  void transmit(std::span<const uint8_t> bytes);
  // `observer` sees each byte that the guest transmits (not those of transmit()), on the vCPU's
  // thread and with the chip locked: it does not call back. Set before the guest starts.
  void observe_guest_output(std::function<void(uint8_t)> observer) {
    observer_ = std::move(observer);
  }
  // A break condition on the line: a zero character with BI set.
  void receive_break();

  // Hands over all output now; for the end of the machine.
  void flush() { output_.flush(); }
  // Bytes that the guest sent although THRE was clear.
  uint64_t dropped_output() { return output_.dropped(); }

 private:
  struct Received {
    uint8_t byte;
    uint8_t errors;  // bits of LSR
  };
  struct State {
    uint8_t ier = 0;
    uint8_t fcr = 0;
    uint8_t lcr = 0;
    uint8_t mcr = 0;
    uint8_t scr = 0;
    uint16_t divisor = 1;    // 115200 baud, as firmware would leave it
    uint8_t overrun = 0;     // LSR's OE, until it is read
    uint8_t msr_deltas = 0;  // low nibble of MSR, until it is read
    bool thre_interrupt = false;
    std::deque<Received> fifo;
  };

  size_t receive(std::span<const uint8_t> bytes);
  void on_output_room();

  uint8_t read_register(Uart::Read reg) CALF_REQUIRES(mutex_);
  void write_register(Uart::Write reg, uint8_t value) CALF_REQUIRES(mutex_);
  uint8_t read_receiver_buffer() CALF_REQUIRES(mutex_);
  uint8_t read_interrupt_identification() CALF_REQUIRES(mutex_);
  uint8_t read_line_status() CALF_REQUIRES(mutex_);
  uint8_t read_modem_status() CALF_REQUIRES(mutex_);
  void write_transmitter(uint8_t value) CALF_REQUIRES(mutex_);
  void write_interrupt_enable(uint8_t value) CALF_REQUIRES(mutex_);
  void write_fifo_control(uint8_t value) CALF_REQUIRES(mutex_);
  void write_modem_control(uint8_t value) CALF_REQUIRES(mutex_);

  bool fifo_enabled() const CALF_REQUIRES(mutex_);
  bool loopback() const CALF_REQUIRES(mutex_);
  size_t fifo_depth() const CALF_REQUIRES(mutex_);
  size_t trigger_level() const CALF_REQUIRES(mutex_);
  uint8_t modem_lines() const CALF_REQUIRES(mutex_);
  uint8_t pending_interrupt() const CALF_REQUIRES(mutex_);
  void push_looped_back(uint8_t byte, uint8_t errors) CALF_REQUIRES(mutex_);
  void refill_fifo() CALF_REQUIRES(mutex_);
  void update_irq() CALF_REQUIRES(mutex_);
  bool take_receiver_ready() CALF_REQUIRES(mutex_);

  ByteChannel& channel_;
  IrqLine& irq_;
  Mutex mutex_;
  State state_ CALF_GUARDED_BY(mutex_);
  std::deque<Received> line_ CALF_GUARDED_BY(mutex_);
  bool line_refused_ CALF_GUARDED_BY(mutex_) = false;  // the channel holds bytes back
  bool irq_level_ CALF_GUARDED_BY(mutex_) = false;
  SerialOutput output_;
  std::function<void(uint8_t)> observer_;
};

}  // namespace calf::devices
