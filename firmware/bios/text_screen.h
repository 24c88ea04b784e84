// TextScreen: the display that this machine does not have, shown on a terminal.
//
// INT 10h draws on a shadow of 80 x 25 cells; what changes is printed as UTF-8 and ANSI escapes
// (ECMA-48). Plain text stays plain: a program that only writes lines makes lines, with no escape
// among them, so a log of the console reads well. All movement is relative to where the terminal's
// cursor is, so the screen need not start at the terminal's top; after clear() both agree.
//
//   guest:  set cursor (5, 10)   nothing is printed yet
//           write 'A'            "\n\n\r\x1b[10CA"
//           set cursor (5, 11)   the terminal is there already
//
// Not supported: other sizes, pages, blinking.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

namespace calf::firmware {

class TextScreen {
 public:
  static constexpr uint8_t kColumns = 80;
  static constexpr uint8_t kRows = 25;
  static constexpr uint8_t kNormal = 0x07;  // light grey on black

  struct Cell {
    uint8_t character = ' ';
    uint8_t attribute = kNormal;
    friend bool operator==(Cell, Cell) = default;
  };
  struct Position {
    uint8_t row = 0;
    uint8_t column = 0;
    friend bool operator==(Position, Position) = default;
  };
  // Inclusive. clamp() makes it lie on the screen.
  struct Window {
    Position first;
    Position last;
  };

  using Print = std::function<void(std::span<const uint8_t>)>;
  explicit TextScreen(Print print) : print_(std::move(print)) {}

  // Positions given to the members below are clamped to the screen.

  // A blank screen, cursor at its start; prints nothing.
  void reset();
  // Blanks all. Prints nothing if the screen was blank and the cursor has not moved.
  void clear();
  // Writes as a teletype does: BEL, BS, LF and CR act, the screen scrolls, cells keep their
  // attribute unless one is given. Returns where the cursor is then.
  Position teletype(Position cursor, uint8_t character, std::optional<uint8_t> attribute = {});
  // Fills `count` cells from `at`, row after row, to the screen's end at most.
  void fill(Position at, uint8_t character, std::optional<uint8_t> attribute, unsigned count);
  // Moves the window's rows up (down, if `lines` is negative) and blanks what is uncovered; `lines`
  // 0 blanks all of it.
  void scroll(Window window, int lines, uint8_t attribute);
  // Puts the terminal's cursor there, where a person is to see it.
  void show_cursor(Position at);
  Cell at(Position position) const;

  // Prints what has gathered.
  void flush();

 private:
  Cell& cell(Position p) { return cells_[p.row * kColumns + p.column]; }
  void draw(Position at);
  void move_to(Position at);
  void move_column(uint8_t column);
  void select(uint8_t attribute);
  void line_feed(Position cursor);
  void repaint(const std::array<Cell, kColumns * kRows>& before);

  Print print_;
  std::string out_;
  std::array<Cell, kColumns * kRows> cells_{};
  // The terminal's state as far as we have brought it there. The column is kColumns when a
  // character was put in the last one: terminals differ in where they are then.
  Position terminal_;
  uint8_t terminal_attribute_ = kNormal;
};

}  // namespace calf::firmware
