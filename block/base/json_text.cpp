#include "block/base/json_text.h"

#include <fmt/format.h>

#include <cstdint>

namespace calf {
namespace {

constexpr uint32_t kReplacement = 0xfffd;

// The code point at the front of `text`, which is taken off.
uint32_t take_code_point(std::string_view& text) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  uint8_t first = byte(0);
  size_t length = first < 0x80       ? 1
                  : first >> 5 == 6  ? 2
                  : first >> 4 == 14 ? 3
                  : first >> 3 == 30 ? 4
                                     : 0;
  if (length == 0 || length > text.size()) {
    text.remove_prefix(1);
    return kReplacement;
  }
  uint32_t point = length == 1 ? first : first & (0x7fU >> length);
  for (size_t i = 1; i < length; ++i) {
    if (byte(i) >> 6 != 2) {
      text.remove_prefix(1);
      return kReplacement;
    }
    point = point << 6 | (byte(i) & 0x3fU);
  }
  text.remove_prefix(length);
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  bool surrogate = point >= 0xd800 && point < 0xe000;
  if (point < kSmallest[length] || point > 0x10ffff || surrogate) return kReplacement;
  return point;
}

}  // namespace

std::string json_string(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    uint32_t point = take_code_point(text);
    switch (point) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (point >= 0x20 && point < 0x7f) {
          out += static_cast<char>(point);
        } else if (point < 0x10000) {
          out += fmt::format("\\u{:04X}", point);
        } else {
          point -= 0x10000;
          out +=
              fmt::format("\\u{:04X}\\u{:04X}", 0xd800 + (point >> 10), 0xdc00 + (point & 0x3ff));
        }
    }
  }
  return out + "\"";
}

}  // namespace calf
