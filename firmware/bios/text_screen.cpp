#include "firmware/bios/text_screen.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "firmware/bios/cp437.h"

namespace calf::firmware {
namespace {

constexpr uint8_t kBell = 0x07;
constexpr uint8_t kBackspace = 0x08;
constexpr uint8_t kLineFeed = 0x0A;
constexpr uint8_t kReturn = 0x0D;

// A gap this short is bridged by printing what stands there: text with moved cursors stays text.
constexpr int kPrintedGap = 4;

TextScreen::Position clamp(TextScreen::Position p) {
  return {std::min<uint8_t>(p.row, TextScreen::kRows - 1),
          std::min<uint8_t>(p.column, TextScreen::kColumns - 1)};
}

template <class... Args>
void append(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

}  // namespace

void TextScreen::reset() {
  cells_.fill(Cell{});
  terminal_ = {};
  terminal_attribute_ = kNormal;
  out_.clear();
}

void TextScreen::clear() {
  bool blank = std::all_of(cells_.begin(), cells_.end(), [](Cell c) { return c == Cell{}; });
  if (blank && terminal_ == Position{}) return;
  cells_.fill(Cell{});
  select(kNormal);
  out_ += "\x1b[H\x1b[2J";
  terminal_ = {};
}

TextScreen::Position TextScreen::teletype(Position cursor, uint8_t character,
                                          std::optional<uint8_t> attribute) {
  cursor = clamp(cursor);
  switch (character) {
    case kBell:
      out_ += '\a';
      return cursor;
    case kBackspace:
      if (cursor.column > 0) --cursor.column;
      return cursor;
    case kReturn:
      // A program that is at the line's end means to end the line, in a log too.
      if (terminal_ == cursor) {
        out_ += '\r';
        terminal_.column = 0;
      }
      cursor.column = 0;
      return cursor;
    case kLineFeed:
      line_feed(cursor);
      cursor.row = std::min<uint8_t>(cursor.row + 1, kRows - 1);
      return cursor;
    default:
      break;
  }
  Cell& here = cell(cursor);
  Cell before = here;
  here.character = character;
  if (attribute) here.attribute = *attribute;
  // Some programs set a cell with its colour, then move on by printing the same character there.
  Position behind{cursor.row, static_cast<uint8_t>(cursor.column + 1)};
  if (here != before || terminal_ != behind) draw(cursor);
  if (++cursor.column < kColumns) return cursor;
  out_ += '\r';
  terminal_.column = 0;
  cursor.column = 0;
  line_feed(cursor);
  cursor.row = std::min<uint8_t>(cursor.row + 1, kRows - 1);
  return cursor;
}

void TextScreen::fill(Position at, uint8_t character, std::optional<uint8_t> attribute,
                      unsigned count) {
  at = clamp(at);
  unsigned start = at.row * kColumns + at.column;
  unsigned end = std::min<unsigned>(kColumns * kRows, start + std::min(count, 0xFFFFu));
  for (unsigned i = start; i < end; ++i) {
    Cell before = cells_[i];
    cells_[i].character = character;
    if (attribute) cells_[i].attribute = *attribute;
    // A single character is text: it is printed even where it changes nothing.
    if (count > 1 && cells_[i] == before) continue;
    draw({static_cast<uint8_t>(i / kColumns), static_cast<uint8_t>(i % kColumns)});
  }
}

void TextScreen::scroll(Window window, int lines, uint8_t attribute) {
  window.last = clamp(window.last);
  window.first = clamp(window.first);
  if (window.first.row > window.last.row || window.first.column > window.last.column) return;
  int height = window.last.row - window.first.row + 1;
  bool whole = window.first == Position{} && window.last == Position{kRows - 1, kColumns - 1};
  bool blanks = lines == 0 || std::abs(lines) >= height;
  if (whole && blanks && attribute == kNormal) return clear();

  auto before = cells_;
  if (whole && !blanks && lines > 0) {
    // The terminal scrolls as the screen does.
    move_to({kRows - 1, 0});
    select(kNormal);
    out_.append(static_cast<size_t>(lines), '\n');
    std::copy(cells_.begin() + lines * kColumns, cells_.end(), before.begin());
    std::fill(before.end() - lines * kColumns, before.end(), Cell{});
  }
  auto old = cells_;
  for (int row = window.first.row; row <= window.last.row; ++row) {
    int source = row + lines;
    bool uncovered = blanks || source < window.first.row || source > window.last.row;
    for (int column = window.first.column; column <= window.last.column; ++column) {
      cells_[row * kColumns + column] =
          uncovered ? Cell{' ', attribute} : old[source * kColumns + column];
    }
  }
  repaint(before);
}

void TextScreen::show_cursor(Position at) {
  move_to(clamp(at));
}

TextScreen::Cell TextScreen::at(Position position) const {
  position = clamp(position);
  return cells_[position.row * kColumns + position.column];
}

void TextScreen::flush() {
  if (out_.empty()) return;
  print_({reinterpret_cast<const uint8_t*>(out_.data()), out_.size()});
  out_.clear();
}

void TextScreen::draw(Position at) {
  move_to(at);
  const Cell& c = cell(at);
  select(c.attribute);
  append_cp437(out_, c.character);
  ++terminal_.column;
}

void TextScreen::move_to(Position at) {
  int down = at.row - terminal_.row;
  if (down < 0) append(out_, "\x1b[{}A", -down);
  if (down > 0) {
    // Line feeds and not a movement: they scroll a terminal whose last line this is.
    out_.append(static_cast<size_t>(down), '\n');
    out_ += '\r';
    terminal_.column = 0;
  }
  terminal_.row = at.row;
  move_column(at.column);
}

void TextScreen::move_column(uint8_t column) {
  if (column == terminal_.column) return;
  if (column + 1 == terminal_.column && terminal_.column < kColumns) {
    out_ += '\b';
    terminal_.column = column;
    return;
  }
  if (column < terminal_.column) {
    out_ += '\r';
    terminal_.column = 0;
  }
  if (int gap = column - terminal_.column; gap > kPrintedGap) {
    append(out_, "\x1b[{}C", gap);
    terminal_.column = column;
  }
  while (terminal_.column < column) {
    const Cell& c = cell(terminal_);
    select(c.attribute);
    append_cp437(out_, c.character);
    ++terminal_.column;
  }
}

void TextScreen::select(uint8_t attribute) {
  if (attribute == terminal_attribute_) return;
  terminal_attribute_ = attribute;
  if (attribute == kNormal) {
    out_ += "\x1b[0m";
    return;
  }
  // The PC orders colours blue, green, red; ECMA-48 red, green, blue.
  constexpr std::array<uint8_t, 8> kAnsi{0, 4, 2, 6, 1, 5, 3, 7};
  append(out_, "\x1b[0;{}3{};4{}m", attribute & 0x08 ? "1;" : "", kAnsi[attribute & 7],
         kAnsi[attribute >> 4 & 7]);
}

// The cursor goes down a line in its column, at the last line the screen scrolls.
void TextScreen::line_feed(Position cursor) {
  move_to(cursor);
  select(kNormal);
  out_ += '\n';
  if (cursor.row + 1 < kRows) {
    ++terminal_.row;
    return;
  }
  std::copy(cells_.begin() + kColumns, cells_.end(), cells_.begin());
  std::fill(cells_.end() - kColumns, cells_.end(), Cell{});
}

void TextScreen::repaint(const std::array<Cell, kColumns * kRows>& before) {
  for (unsigned i = 0; i < cells_.size(); ++i) {
    if (cells_[i] == before[i]) continue;
    draw({static_cast<uint8_t>(i / kColumns), static_cast<uint8_t>(i % kColumns)});
  }
}

}  // namespace calf::firmware
