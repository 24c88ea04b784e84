// INT 10h and the terminal that shows it.
#include "tests/firmware/bios/bios_fixture.h"

namespace calf::firmware {
namespace {

class VideoTest : public BiosFixture {
 protected:
  void SetUp() override { start(); }
  void tty(std::string_view text) {
    for (char c : text) {
      regs.ax.set_word(0x0E00u | static_cast<uint8_t>(c));
      regs.bx.set_word(7);
      call(0x10);
    }
  }
  void cursor(uint8_t row, uint8_t column) {
    regs.ax.set_word(0x0200);
    regs.bx.set_word(0);
    regs.dx.set_high(row);
    regs.dx.set_low(column);
    call(0x10);
  }
  void put(char c, uint8_t attribute = 7, uint16_t count = 1) {
    regs.ax.set_word(0x0900u | static_cast<uint8_t>(c));
    regs.bx.set_word(attribute);
    regs.cx.set_word(count);
    call(0x10);
  }
  std::pair<int, int> position() {
    regs.ax.set_word(0x0300);
    call(0x10);
    return {regs.dx.high(), regs.dx.low()};
  }
  char at(uint8_t row, uint8_t column) {
    cursor(row, column);
    regs.ax.set_word(0x0800);
    call(0x10);
    return static_cast<char>(regs.ax.low());
  }
};

TEST_F(VideoTest, LinesStayLines) {
  tty("Hello\r\nworld\r\n\r\nend");
  EXPECT_EQ(take_printed(), "Hello\r\nworld\r\n\r\nend");
  EXPECT_EQ(position(), (std::pair{3, 3}));
}

TEST_F(VideoTest, LineFeedBeforeReturnToo) {
  tty("a\n\rb");
  EXPECT_EQ(take_printed(), "a\n\rb");
}

TEST_F(VideoTest, WrapsAndScrolls) {
  tty(std::string(81, 'x'));
  EXPECT_EQ(take_printed(), std::string(80, 'x') + "\r\nx");
  tty(std::string("\r\n") + "second");
  for (int i = 0; i < 30; ++i)
    tty("\r\nline");
  EXPECT_EQ(position(), (std::pair{24, 4}));
  EXPECT_EQ(at(0, 0), 'l');
  EXPECT_EQ(take_printed().find('\x1b'), std::string::npos);
}

TEST_F(VideoTest, BackspaceMovesOnly) {
  tty("ab\b");
  tty("c");
  EXPECT_EQ(take_printed(), "ab\bc");
  EXPECT_EQ(at(0, 1), 'c');
}

TEST_F(VideoTest, TextByWriteAndMoveHasNoEscapes) {
  // As GRUB prints: write at the cursor, then move it.
  uint8_t column = 0;
  for (char c : std::string_view("GRUB menu")) {
    put(c);
    cursor(0, ++column);
  }
  EXPECT_EQ(take_printed(), "GRUB menu");
}

TEST_F(VideoTest, ColouredTextByWriteAndTeletypeIsPrintedOnce) {
  // As iPXE prints: write with the colour, then print to advance.
  for (char c : std::string_view("iPXE")) {
    put(c, 0x0B);
    tty(std::string_view(&c, 1));
  }
  EXPECT_EQ(take_printed(), "\x1b[0;1;36;40miPXE");
}

TEST_F(VideoTest, MovesAreRelativeAndLazy) {
  cursor(5, 10);
  cursor(3, 20);
  cursor(2, 10);
  EXPECT_EQ(take_printed(), "");
  put('A');
  EXPECT_EQ(take_printed(), "\n\n\r\x1b[10CA");
  cursor(1, 0);
  put('B');
  EXPECT_EQ(take_printed(), "\x1b[1A\rB");
}

TEST_F(VideoTest, ShortGapsArePrinted) {
  tty("a");
  cursor(0, 3);
  tty("b");
  EXPECT_EQ(take_printed(), "a  b");
}

TEST_F(VideoTest, Colours) {
  put('r', 0x1F);
  EXPECT_EQ(take_printed(), "\x1b[0;1;37;44mr");
  cursor(0, 1);
  put('n', 0x07);
  EXPECT_EQ(take_printed(), "\x1b[0mn");
}

TEST_F(VideoTest, ClearingABlankScreenPrintsNothing) {
  regs.ax.set_word(0x0003);
  call(0x10);
  EXPECT_EQ(take_printed(), "");
  tty("x");
  regs.ax.set_word(0x0003);
  call(0x10);
  EXPECT_EQ(take_printed(), "x\x1b[H\x1b[2J");
  EXPECT_EQ(position(), (std::pair{0, 0}));
}

TEST_F(VideoTest, FillRepaintsOnlyWhatDiffers) {
  put(' ', 7, 2000);
  EXPECT_EQ(take_printed(), "");
  put('-', 7, 80);
  EXPECT_EQ(take_printed(), std::string(80, '-'));
  cursor(0, 0);
  put('-', 7, 80);
  EXPECT_EQ(take_printed(), "");
}

TEST_F(VideoTest, ScrollsAWindow) {
  tty("one\r\ntwo\r\nthree");
  take_printed();
  regs.ax.set_word(0x0601);
  regs.bx.set_word(0x0700);
  regs.cx.set_word(0x0000);
  regs.dx.set_word(0x0209);
  call(0x10);
  EXPECT_EQ(at(0, 0), 't');
  EXPECT_EQ(at(0, 1), 'w');
  EXPECT_EQ(at(1, 1), 'h');
  EXPECT_EQ(at(2, 0), ' ');
  // Down again.
  regs.ax.set_word(0x0701);
  regs.bx.set_word(0x0700);
  regs.cx.set_word(0x0000);
  regs.dx.set_word(0x0209);
  call(0x10);
  EXPECT_EQ(at(1, 1), 'w');
  EXPECT_EQ(at(0, 0), ' ');
}

TEST_F(VideoTest, ScrollOfAllIsLineFeeds) {
  tty("one\r\ntwo");
  take_printed();
  regs.ax.set_word(0x0601);
  regs.bx.set_word(0x0700);
  regs.cx.set_word(0x0000);
  regs.dx.set_word(0x184F);
  call(0x10);
  EXPECT_EQ(at(0, 0), 't');
  std::string printed = take_printed();
  EXPECT_EQ(printed.find("two"), std::string::npos);
}

TEST_F(VideoTest, WritesStrings) {
  const char text[] = "Hi\r\n!";
  for (unsigned i = 0; i < 5; ++i)
    memory.set_byte(linear(0x2000, static_cast<uint16_t>(0xFFFE + i)),
                    static_cast<uint8_t>(text[i]));
  regs.es = 0x2000;
  regs.bp.set_word(0xFFFE);  // wraps to the segment's start
  regs.ax.set_word(0x1301);
  regs.bx.set_word(0x0007);
  regs.cx.set_word(5);
  regs.dx.set_word(0);
  call(0x10);
  EXPECT_EQ(take_printed(), "Hi\r\n!");
  EXPECT_EQ(position(), (std::pair{1, 1}));
}

TEST_F(VideoTest, GlyphsAreUnicodeAndNeverEscapes) {
  put('\xC4');
  cursor(0, 1);
  put('\x1b');
  tty("\x1b[2J");
  std::string printed = take_printed();
  EXPECT_EQ(printed.substr(0, 6), "─←");
  EXPECT_EQ(printed.find('\x1b'), std::string::npos);
}

TEST_F(VideoTest, SaysThatThereIsNoDisplayAdapter) {
  regs.ax.set_word(0x1200);
  regs.bx.set_word(0x0010);
  call(0x10);
  EXPECT_EQ(regs.bx.word(), 0x0010);
  regs.ax.set_word(0x1A00);
  call(0x10);
  EXPECT_EQ(regs.bx.word(), 0);
  regs.ax.set_word(0x4F00);
  call(0x10);
  EXPECT_NE(regs.ax.low(), 0x4F);
  regs.ax.set_word(0x0F00);
  call(0x10);
  EXPECT_EQ(regs.ax.word(), 0x5003);
}

TEST_F(VideoTest, CursorIsShownBeforeAKeyIsRead) {
  tty("menu\r\n");
  cursor(0, 0);
  take_printed();
  regs.ax.set_word(0x0100);
  call(0x16);
  EXPECT_EQ(take_printed(), "\x1b[1A");
}

}  // namespace
}  // namespace calf::firmware
