#include "devices/legacy/uart16550.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/fake_channel.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_irq.h"
#include "tests/support/hostile_access.h"

namespace calf::devices {
namespace {

using namespace std::chrono_literals;

class UartTest : public testing::Test {
 protected:
  uint8_t in(uint8_t reg) { return uart_.read_byte(reg); }
  void out(uint8_t reg, uint8_t value) { uart_.write_byte(reg, value); }
  void out_text(std::string_view text) {
    for (char c : text)
      out(Uart::kTransmitterHolding, static_cast<uint8_t>(c));
  }
  void enable_interrupts(uint8_t ier) {
    out(Uart::kModemControl, Uart::kMcrOut2);
    in(Uart::kModemStatus);
    out(Uart::kInterruptEnable, ier);
  }
  uint8_t interrupt_id() { return in(Uart::kInterruptIdentification)&0x0f; }

  FakeClock clock_;
  FakeIrq irq_;
  FakeChannel channel_;
  Uart16550 uart_{channel_, irq_, clock_, clock_};
};

TEST_F(UartTest, SendsALineAtOnceAndAPromptSoon) {
  out_text("calf login: ok\n");
  EXPECT_EQ(channel_.sent(), "calf login: ok\n");
  EXPECT_EQ(channel_.sends(), 1);
  out_text("$ ");
  EXPECT_EQ(channel_.sends(), 1);
  clock_.advance(3ms);
  EXPECT_EQ(channel_.sent(), "calf login: ok\n$ ");
}

TEST_F(UartTest, FlushDoesNotWaitForTheTimer) {
  out_text("last words");
  uart_.flush();
  EXPECT_EQ(channel_.sent(), "last words");
}

TEST_F(UartTest, ReaderThatStoppedLosesNothingUntilTheGuestIgnoresThre) {
  channel_.set_room(3);
  std::string text;
  while ((in(Uart::kLineStatus)&Uart::kLsrTransmitterHoldingEmpty) != 0) {
    text += static_cast<char>('a' + text.size() % 26);
    out(Uart::kTransmitterHolding, static_cast<uint8_t>(text.back()));
    ASSERT_LE(text.size(), 2 * SerialOutput::kCapacity);
  }
  EXPECT_GE(text.size(), SerialOutput::kCapacity - SerialOutput::kBurst);
  for (int i = 0; i < 100; ++i)
    out(Uart::kTransmitterHolding, 'x');
  EXPECT_GT(uart_.dropped_output(), 0u);
  EXPECT_LT(uart_.dropped_output(), 100u);
  channel_.make_room(SIZE_MAX);
  EXPECT_EQ(channel_.sent().substr(0, text.size()), text);
  EXPECT_EQ(channel_.sent().size() + uart_.dropped_output(), text.size() + 100);
  EXPECT_NE(in(Uart::kLineStatus)&Uart::kLsrTransmitterHoldingEmpty, 0);
}

TEST_F(UartTest, RoomAfterAStopRaisesTheTransmitterInterrupt) {
  enable_interrupts(Uart::kIerTransmitterEmpty);
  EXPECT_EQ(interrupt_id(), Uart::kIirTransmitterEmpty);
  channel_.set_room(0);
  for (size_t i = 0; i < SerialOutput::kCapacity; ++i)
    out(Uart::kTransmitterHolding, 'x');
  interrupt_id();
  EXPECT_FALSE(irq_.level());
  channel_.make_room(SIZE_MAX);
  EXPECT_TRUE(irq_.level());
  EXPECT_EQ(interrupt_id(), Uart::kIirTransmitterEmpty);
  EXPECT_FALSE(irq_.level());
}

// The probing sequence of Linux's 8250 driver (autoconfig), register by register.
TEST_F(UartTest, LooksLikeA16550AToLinux) {
  out(Uart::kInterruptEnable, 0);
  EXPECT_EQ(in(Uart::kInterruptEnable), 0);
  out(Uart::kInterruptEnable, 0x0f);
  EXPECT_EQ(in(Uart::kInterruptEnable), 0x0f);
  out(Uart::kInterruptEnable, 0xff);
  EXPECT_EQ(in(Uart::kInterruptEnable)&0xf0, 0) << "no sleep mode, no UUE";
  out(Uart::kInterruptEnable, 0);
  out(Uart::kModemControl, Uart::kMcrLoop | Uart::kMcrOut2 | Uart::kMcrRts);
  EXPECT_EQ(in(Uart::kModemStatus)&0xf0, 0x90);
  out(Uart::kModemControl, 0);
  out(Uart::kLineControl, 0xbf);
  out(2, 0);
  out(Uart::kLineControl, 0);
  out(Uart::kFifoControl, Uart::kFcrEnable);
  EXPECT_EQ(in(Uart::kInterruptIdentification) >> 6, 3) << "16550A: both bits";
  out(Uart::kLineControl, 0xbf);
  EXPECT_NE(in(2), 0) << "no enhanced feature register";
  out(Uart::kLineControl, 0);
  out(Uart::kFifoControl, Uart::kFcrEnable | 0x20);
  EXPECT_EQ(in(Uart::kInterruptIdentification) >> 5, 6) << "no 64-byte FIFO";
  out(Uart::kScratch, 0x5a);
  EXPECT_EQ(in(Uart::kScratch), 0x5a);
}

// Linux starts a timer to poll ports that do not do this.
TEST_F(UartTest, TransmitterInterruptComesBackWhenReEnabled) {
  out(Uart::kModemControl, Uart::kMcrOut2);
  out(Uart::kInterruptEnable, Uart::kIerTransmitterEmpty);
  EXPECT_TRUE(irq_.level());
  EXPECT_EQ(interrupt_id(), Uart::kIirTransmitterEmpty);
  EXPECT_EQ(interrupt_id(), Uart::kIirNone) << "reading acknowledges";
  out(Uart::kInterruptEnable, 0);
  out(Uart::kInterruptEnable, Uart::kIerTransmitterEmpty);
  EXPECT_EQ(interrupt_id(), Uart::kIirTransmitterEmpty);
}

TEST_F(UartTest, ReceivesWithTriggerLevelAndTimeout) {
  out(Uart::kFifoControl, Uart::kFcrEnable | 1 << Uart::kFcrTriggerShift);
  enable_interrupts(Uart::kIerReceivedData);
  channel_.offer("abcde");
  EXPECT_TRUE(irq_.level());
  EXPECT_EQ(interrupt_id(), Uart::kIirReceivedData);
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'a');
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'b');
  EXPECT_EQ(interrupt_id(), Uart::kIirCharacterTimeout);
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'c');
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'd');
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'e');
  EXPECT_FALSE(irq_.level());
  EXPECT_EQ(in(Uart::kLineStatus)&Uart::kLsrDataReady, 0);
}

TEST_F(UartTest, LongPasteIsNeitherLostNorOverrun) {
  std::string paste;
  for (int i = 0; i < 20000; ++i)
    paste += static_cast<char>('!' + i % 90);
  channel_.offer(paste);
  EXPECT_EQ(channel_.held(), paste.size() - Uart16550::kLineCapacity);
  std::string got;
  while (true) {
    uint8_t status = in(Uart::kLineStatus);
    ASSERT_EQ(status & Uart::kLsrOverrun, 0);
    if ((status & Uart::kLsrDataReady) == 0) break;
    got += static_cast<char>(in(Uart::kReceiverBuffer));
  }
  EXPECT_EQ(got, paste);
  EXPECT_LT(channel_.ready_calls(), 20) << "flow control is not per byte";
}

TEST_F(UartTest, FirmwareAndGuestShareTheBytes) {
  EXPECT_FALSE(uart_.peek_received().has_value());
  channel_.offer("xyz");
  EXPECT_EQ(uart_.peek_received(), 'x');
  EXPECT_EQ(uart_.take_received(), 'x');
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'y');
  EXPECT_EQ(uart_.take_received(), 'z');
  EXPECT_FALSE(uart_.take_received().has_value());
}

TEST_F(UartTest, LoopbackIsCutOffFromTheLine) {
  out(Uart::kFifoControl, Uart::kFcrEnable);
  out(Uart::kModemControl, Uart::kMcrLoop | Uart::kMcrOut2);
  channel_.offer("outside");
  out(Uart::kTransmitterHolding, 'L');
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'L');
  EXPECT_EQ(in(Uart::kLineStatus)&Uart::kLsrDataReady, 0);
  for (int i = 0; i < 17; ++i)
    out(Uart::kTransmitterHolding, 'o');
  EXPECT_NE(in(Uart::kLineStatus)&Uart::kLsrOverrun, 0);
  EXPECT_EQ(in(Uart::kLineStatus)&Uart::kLsrOverrun, 0) << "reading clears";
  EXPECT_EQ(channel_.sent(), "");
  out(Uart::kFifoControl, Uart::kFcrEnable | Uart::kFcrResetReceiver);
  out(Uart::kModemControl, Uart::kMcrOut2);
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'o') << "the line's bytes were kept";
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'u');
}

TEST_F(UartTest, ModemLinesShowDeltasOnceAndInterrupt) {
  enable_interrupts(Uart::kIerModemStatus);
  EXPECT_EQ(in(Uart::kModemStatus), Uart::kMsrCts | Uart::kMsrDsr | Uart::kMsrDcd);
  out(Uart::kModemControl, Uart::kMcrLoop | Uart::kMcrOut1 | Uart::kMcrRts);
  EXPECT_EQ(interrupt_id(), Uart::kIirModemStatus);
  EXPECT_EQ(in(Uart::kModemStatus),
            Uart::kMsrCts | Uart::kMsrRi | Uart::kMsrDeltaDsr | Uart::kMsrDeltaDcd);
  out(Uart::kModemControl, Uart::kMcrLoop | Uart::kMcrRts);
  EXPECT_EQ(in(Uart::kModemStatus), Uart::kMsrCts | Uart::kMsrTrailingEdgeRi);
  EXPECT_EQ(interrupt_id(), Uart::kIirNone);
}

TEST_F(UartTest, BreakIsReportedWithItsCharacter) {
  out(Uart::kFifoControl, Uart::kFcrEnable);
  enable_interrupts(Uart::kIerLineStatus);
  channel_.offer("a");
  uart_.receive_break();
  EXPECT_FALSE(irq_.level());
  EXPECT_EQ(in(Uart::kLineStatus) & (Uart::kLsrBreak | Uart::kLsrErrorInFifo),
            Uart::kLsrErrorInFifo);
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'a');
  EXPECT_EQ(interrupt_id(), Uart::kIirLineStatus);
  EXPECT_NE(in(Uart::kLineStatus)&Uart::kLsrBreak, 0);
  EXPECT_EQ(in(Uart::kReceiverBuffer), 0);
}

TEST_F(UartTest, InterruptNeedsOut2) {
  out(Uart::kInterruptEnable, Uart::kIerReceivedData);
  channel_.offer("a");
  EXPECT_FALSE(irq_.level());
  out(Uart::kModemControl, Uart::kMcrOut2);
  EXPECT_TRUE(irq_.level());
}

TEST_F(UartTest, DivisorLatchHidesTheDataRegisters) {
  out(Uart::kLineControl, Uart::kLcrDivisorLatchAccess | 3);
  out(Uart::kDivisorLow, 12);
  out(Uart::kDivisorHigh, 1);
  EXPECT_EQ(in(Uart::kDivisorLow), 12);
  EXPECT_EQ(in(Uart::kDivisorHigh), 1);
  out(Uart::kLineControl, 3);
  EXPECT_EQ(in(Uart::kInterruptEnable), 0);
  EXPECT_EQ(channel_.sent(), "");
}

TEST_F(UartTest, ResetLeavesTheConsolesBytes) {
  channel_.offer("type-ahead");
  enable_interrupts(Uart::kIerReceivedData);
  EXPECT_TRUE(irq_.level());
  out_text("bye");
  uart_.reset();
  EXPECT_FALSE(irq_.level());
  EXPECT_EQ(in(Uart::kInterruptEnable), 0);
  EXPECT_EQ(in(Uart::kReceiverBuffer), 'y') << "'t' was in the chip, the rest on the line";
  clock_.advance(5ms);
  EXPECT_EQ(channel_.sent(), "bye");
}

TEST_F(UartTest, SurvivesAHostileGuest) {
  hostile_accesses(uart_, Uart16550::kWindow, 200000, 16550, [&](uint32_t r) {
    if (r % 16 == 0) channel_.offer("hello");
    if (r % 32 == 1) uart_.receive_break();
    if (r % 64 == 2) clock_.advance(1ms);
    if (r % 128 == 3) channel_.set_room(r % 1000);
    if (r % 128 == 4) channel_.make_room(r % 100000);
    if (r % 1024 == 5) uart_.take_received();
  });
}

TEST_F(UartTest, TwoVcpusAndAConsoleAtOnce) {
  std::thread vcpu([&] {
    for (int i = 0; i < 5000; ++i)
      out(Uart::kTransmitterHolding, '\n');
  });
  std::thread other([&] {
    for (int i = 0; i < 5000; ++i)
      in(static_cast<uint8_t>(i % 8));
  });
  for (int i = 0; i < 1000; ++i)
    channel_.offer("k");
  vcpu.join();
  other.join();
  EXPECT_EQ(channel_.sent().size(), 5000u);
}

}  // namespace
}  // namespace calf::devices
