#include "firmware/bios/cp437.h"

#include <string_view>

namespace calf::firmware {
namespace {

constexpr std::u16string_view kLow = u" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
constexpr std::u16string_view kHigh =
    u"ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ"
    u"áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐"
    u"└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀"
    u"αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ";
static_assert(kLow.size() == 32 && kHigh.size() == 128);

constexpr char16_t unicode(uint8_t code) {
  if (code < 0x20) return kLow[code];
  if (code < 0x7F) return code;
  if (code == 0x7F) return u'⌂';
  return kHigh[code - 0x80];
}

}  // namespace

void append_cp437(std::string& out, uint8_t code) {
  auto c = static_cast<uint32_t>(unicode(code));
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

}  // namespace calf::firmware
