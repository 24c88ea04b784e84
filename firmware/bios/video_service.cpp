#include "firmware/bios/video_service.h"

#include <algorithm>

#include "firmware/bios/areas.h"

namespace calf::firmware {
namespace {

using Position = TextScreen::Position;

constexpr uint8_t kTextMode = 3;
constexpr uint8_t kCursorHidden = 0x20;  // in the first line of the shape

// Rows are in the high half.
Position position(Register r) {
  return {r.high(), r.low()};
}

bool is_text_mode(uint8_t mode) {
  return mode <= 3 || mode == 7;
}

}  // namespace

bool VideoService::handle(Call& call) {
  RealModeRegs& regs = call.regs;
  switch (regs.ax.high()) {
    case 0x00:  // set mode
      set_mode(regs.ax.low());
      break;
    case 0x01:  // cursor shape
      memory_.set_word(bda::kCursorShape, regs.cx.word());
      break;
    case 0x02:  // set cursor
      set_cursor(position(regs.dx));
      break;
    case 0x03: {  // get cursor
      Position at = cursor();
      regs.dx.set_high(at.row);
      regs.dx.set_low(at.column);
      regs.cx.set_word(memory_.word(bda::kCursorShape));
      break;
    }
    case 0x05:  // select page: there is one
    case 0x0B:  // palette
      break;
    case 0x06:
    case 0x07: {  // scroll
      int lines = regs.ax.low();
      if (regs.ax.high() == 0x07) lines = -lines;
      screen_.scroll({position(regs.cx), position(regs.dx)}, lines, regs.bx.high());
      break;
    }
    case 0x08: {  // read character and attribute
      auto cell = screen_.at(cursor());
      regs.ax.set_low(cell.character);
      regs.ax.set_high(cell.attribute);
      break;
    }
    case 0x09:
      screen_.fill(cursor(), regs.ax.low(), regs.bx.low(), regs.cx.word());
      break;
    case 0x0A:
      screen_.fill(cursor(), regs.ax.low(), std::nullopt, regs.cx.word());
      break;
    case 0x0E:
      set_cursor(screen_.teletype(cursor(), regs.ax.low()));
      break;
    case 0x0F:  // get mode
      regs.ax.set_low(memory_.byte(bda::kVideoMode));
      regs.ax.set_high(TextScreen::kColumns);
      regs.bx.set_high(0);
      break;
    case 0x11:
      character_generator(call);
      break;
    case 0x12:  // alternate select: BL = 10h comes back unchanged, which says "no EGA"
      break;
    case 0x13:
      write_string(call);
      break;
    case 0x1A:  // display combination: the function is there, a display is not
      if (regs.ax.low() == 0) regs.bx.set_word(0);
      regs.ax.set_low(0x1A);
      break;
    case 0x4F:  // VESA: "supported" would be AL = 4Fh
      regs.ax.set_word(0x0100);
      break;
    default:
      return false;
  }
  screen_.flush();
  return true;
}

void VideoService::show_cursor() {
  if (memory_.byte(bda::kCursorShape + 1) & kCursorHidden) return;
  screen_.show_cursor(cursor());
  screen_.flush();
}

void VideoService::print(std::string_view text) {
  Position at = cursor();
  for (char c : text) {
    if (c == '\n') at = screen_.teletype(at, '\r');
    at = screen_.teletype(at, static_cast<uint8_t>(c));
  }
  set_cursor(at);
  screen_.flush();
}

Position VideoService::cursor() const {
  return {std::min<uint8_t>(memory_.byte(bda::kCursorPositions + 1), TextScreen::kRows - 1),
          std::min<uint8_t>(memory_.byte(bda::kCursorPositions), TextScreen::kColumns - 1)};
}

void VideoService::set_cursor(Position at) {
  memory_.set_byte(bda::kCursorPositions, at.column);
  memory_.set_byte(bda::kCursorPositions + 1, at.row);
}

void VideoService::set_mode(uint8_t mode) {
  constexpr uint8_t kKeepScreen = 0x80;
  if (!is_text_mode(mode & 0x7F)) return;
  memory_.set_byte(bda::kVideoMode, kTextMode);
  memory_.set_word(bda::kCursorShape, 0x0607);
  if (!(mode & kKeepScreen)) screen_.clear();
  set_cursor({});
}

void VideoService::write_string(Call& call) {
  constexpr uint8_t kMoveCursor = 1;
  constexpr uint8_t kWithAttributes = 2;
  RealModeRegs& regs = call.regs;
  uint8_t form = regs.ax.low();
  if (form > (kMoveCursor | kWithAttributes)) return;
  uint16_t offset = regs.bp.word();
  auto next = [&] { return memory_.byte(linear(regs.es, offset++)); };
  Position at = position(regs.dx);
  for (unsigned left = regs.cx.word(); left > 0; --left) {
    uint8_t character = next();
    uint8_t attribute = form & kWithAttributes ? next() : regs.bx.low();
    at = screen_.teletype(at, character, attribute);
  }
  if (form & kMoveCursor) set_cursor(at);
}

void VideoService::character_generator(Call& call) {
  constexpr uint8_t kGetInformation = 0x30;
  RealModeRegs& regs = call.regs;
  if (regs.ax.low() != kGetInformation) return;  // no font can be loaded
  regs.es = kBiosSegmentSelector;
  regs.bp.set_word(kFontOffset);
  regs.cx.set_word(memory_.byte(bda::kCharacterHeight));
  regs.dx.set_low(TextScreen::kRows - 1);
}

}  // namespace calf::firmware
