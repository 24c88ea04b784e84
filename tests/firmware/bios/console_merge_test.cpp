#include "firmware/bios/console_merge.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace calf::firmware {
namespace {

using namespace std::chrono_literals;

class ConsoleMergeTest : public testing::Test {
 protected:
  // INT 10h, character by character as guests do.
  void screen(std::string_view text) {
    for (char c : text) {
      auto byte = static_cast<uint8_t>(c);
      merge_.print({&byte, 1});
    }
  }
  // COM1: the UART prints it.
  void serial(std::string_view text) {
    for (char c : text) {
      shown_ += c;
      merge_.note_serial(static_cast<uint8_t>(c));
    }
  }

  devices::FakeClock clock_;
  std::string shown_;
  ConsoleMerge merge_{clock_, [this](std::span<const uint8_t> text) {
                        shown_.append(reinterpret_cast<const char*>(text.data()), text.size());
                      }};
};

TEST_F(ConsoleMergeTest, AloneIsPrintedAtOnce) {
  screen("Hello\r\n");
  EXPECT_EQ(shown_, "Hello\r\n");
}

TEST_F(ConsoleMergeTest, SerialFirstThenScreen) {
  for (char c : std::string_view("boot: ")) {
    serial(std::string_view(&c, 1));
    screen(std::string_view(&c, 1));
  }
  clock_.advance(1s);
  merge_.settle();
  EXPECT_EQ(shown_, "boot: ");
}

TEST_F(ConsoleMergeTest, ScreenFirstThenSerialLineByLine) {
  serial("x\r\n");
  for (int i = 0; i < 10; ++i) {
    screen("a line of text\r\n");
    serial("a line of text\r\n");
  }
  merge_.settle();
  EXPECT_EQ(shown_.size(), 3 + 10 * 16u);
}

TEST_F(ConsoleMergeTest, MovementsDoNotMatter) {
  serial("\x1b[5;10HChoose one");
  screen("\n\n\r\x1b[10CChoose\x1b[0;30;47m one\x1b[0m");
  clock_.advance(1s);
  merge_.settle();
  EXPECT_EQ(shown_, "\x1b[5;10HChoose one");
}

TEST_F(ConsoleMergeTest, NothingIsLostWhenTheGuestLeavesTheLine) {
  serial("loader\r\n");
  screen("DOS starts\r\n");
  EXPECT_EQ(shown_, "loader\r\n");
  clock_.advance(600ms);
  merge_.settle();
  EXPECT_EQ(shown_, "loader\r\nDOS starts\r\n");
  screen("C:\\>");
  EXPECT_EQ(shown_, "loader\r\nDOS starts\r\nC:\\>");
}

TEST_F(ConsoleMergeTest, AScreenfulIsEnough) {
  serial("x");
  screen(std::string(ConsoleMerge::kScreenful + 1, 'y'));
  EXPECT_EQ(shown_.size(), ConsoleMerge::kScreenful + 2);
}

TEST_F(ConsoleMergeTest, ResetForgets) {
  serial("x");
  screen("held");
  merge_.reset();
  screen("new");
  EXPECT_EQ(shown_, "xnew");
}

}  // namespace
}  // namespace calf::firmware
