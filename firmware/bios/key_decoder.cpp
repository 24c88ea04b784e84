#include "firmware/bios/key_decoder.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace calf::firmware {
namespace {

constexpr uint8_t kEscape = 0x1B;
constexpr uint8_t kGrey = 0xE0;  // the character of keys that the first PC keyboard did not have

// Scan code by character: each row of keys has consecutive codes.
constexpr std::array<uint8_t, 128> make_scan_codes() {
  std::array<uint8_t, 128> table{};
  auto row = [&](uint8_t first, std::string_view plain, std::string_view shifted) {
    for (size_t i = 0; i < plain.size(); ++i) {
      table[static_cast<uint8_t>(plain[i])] = static_cast<uint8_t>(first + i);
      table[static_cast<uint8_t>(shifted[i])] = static_cast<uint8_t>(first + i);
    }
  };
  row(0x02, "1234567890-=", "!@#$%^&*()_+");
  row(0x10, "qwertyuiop[]", "QWERTYUIOP{}");
  row(0x1E, "asdfghjkl;'`", "ASDFGHJKL:\"~");
  row(0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?");
  table[' '] = 0x39;
  return table;
}
constexpr auto kScanCodes = make_scan_codes();

Key plain_key(uint8_t c) {
  switch (c) {
    case 0x00:
      return {0x03, 0x00};  // Ctrl-@
    case '\b':
    case 0x7F:
      return {0x0E, '\b'};
    case '\t':
      return {0x0F, '\t'};
    case '\r':
    case '\n':  // a line typed by a script ends with this
      return {0x1C, '\r'};
    case kEscape:
      return {0x01, kEscape};
    case 0x1C:
      return {0x2B, c};
    case 0x1D:
      return {0x1B, c};
    case 0x1E:
      return {0x07, c};
    case 0x1F:
      return {0x0C, c};
    default:
      break;
  }
  if (c < 0x20) return {kScanCodes[c + 'a' - 1], c};
  return {c < 0x80 ? kScanCodes[c] : uint8_t{0}, c};
}

Key alt_key(uint8_t c) {
  constexpr uint8_t kAltDigits = 0x76;  // Alt-1 is 78h
  uint8_t scan = plain_key(c).scan;
  if (scan >= 0x02 && scan <= 0x0D) scan = static_cast<uint8_t>(scan + kAltDigits);
  return {scan, 0};
}

// F1 is 1.
Key function_key(unsigned number) {
  if (number <= 10) return {static_cast<uint8_t>(0x3A + number), 0};
  return {static_cast<uint8_t>(0x85 + number - 11), 0};
}

struct Arrow {
  uint8_t final;
  uint8_t scan;
  uint8_t with_control;
};
constexpr auto kArrows = std::to_array<Arrow>({
    {'A', 0x48, 0x8D},  // up
    {'B', 0x50, 0x91},  // down
    {'C', 0x4D, 0x74},  // right
    {'D', 0x4B, 0x73},  // left
    {'H', 0x47, 0x77},  // home
    {'F', 0x4F, 0x75},  // end
});

std::optional<Key> final_key(uint8_t final, bool control) {
  for (const Arrow& arrow : kArrows) {
    if (arrow.final == final) return Key{control ? arrow.with_control : arrow.scan, kGrey};
  }
  if (final >= 'P' && final <= 'S') return function_key(final - 'P' + 1u);
  if (final == 'Z') return Key{0x0F, 0};  // Shift-Tab
  if (final == 'M') return Key{0x1C, '\r'};
  return std::nullopt;
}

// CSI number ~
std::optional<Key> numbered_key(unsigned number, bool control) {
  switch (number) {
    case 1:
    case 7:
      return final_key('H', control);
    case 4:
    case 8:
      return final_key('F', control);
    case 2:
      return Key{control ? uint8_t{0x92} : uint8_t{0x52}, kGrey};  // insert
    case 3:
      return Key{control ? uint8_t{0x93} : uint8_t{0x53}, kGrey};  // delete
    case 5:
      return Key{control ? uint8_t{0x84} : uint8_t{0x49}, kGrey};  // page up
    case 6:
      return Key{control ? uint8_t{0x76} : uint8_t{0x51}, kGrey};  // page down
    default:
      break;
  }
  if (number >= 11 && number <= 15) return function_key(number - 10);
  if (number >= 17 && number <= 21) return function_key(number - 11);
  if (number >= 23 && number <= 24) return function_key(number - 12);
  return std::nullopt;
}

// `bytes` starts behind "ESC [". The length is that of these bytes alone, 0 if the end is missing.
Decoded decode_csi(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return {};
  if (bytes[0] == '[') {  // the Linux console's F1 to F5
    if (bytes.size() < 2) return {};
    bool known = bytes[1] >= 'A' && bytes[1] <= 'E';
    return {2, known ? std::optional(function_key(bytes[1] - 'A' + 1u)) : std::nullopt};
  }
  std::array<unsigned, 2> parameters{0, 1};
  unsigned index = 0;
  for (unsigned i = 0; i < bytes.size(); ++i) {
    uint8_t c = bytes[i];
    if (c >= '0' && c <= '9') {
      if (index < 2) parameters[index] = std::min(parameters[index] * 10 + c - '0', 999u);
      continue;
    }
    if (c == ';') {
      if (++index < 2) parameters[index] = 0;
      continue;
    }
    if (c < 0x40) {
      if (c >= 0x20) continue;       // other parameters and intermediates
      return {i + 1, std::nullopt};  // a control ends a broken sequence
    }
    bool control = parameters[1] > 0 && ((parameters[1] - 1) & 4) != 0;
    return {i + 1, c == '~' ? numbered_key(parameters[0], control) : final_key(c, control)};
  }
  return {};
}

}  // namespace

Decoded decode_key(std::span<const uint8_t> bytes, bool complete) {
  uint8_t first = bytes[0];
  if (first != kEscape) return {1, plain_key(first)};
  constexpr unsigned kPrefix = 2;
  Decoded single{1, plain_key(kEscape)};
  if (bytes.size() == 1) return complete ? single : Decoded{};
  uint8_t second = bytes[1];
  if (second == 'O' || second == '[') {
    Decoded decoded;
    if (second == '[') decoded = decode_csi(bytes.subspan(kPrefix));
    if (second == 'O' && bytes.size() > kPrefix) decoded = {1, final_key(bytes[kPrefix], false)};
    if (decoded.length > 0) return {decoded.length + kPrefix, decoded.key};
    return complete || bytes.size() >= kMaxKeyLength ? single : Decoded{};
  }
  if (second == kEscape) return single;
  return {kPrefix, alt_key(second)};
}

}  // namespace calf::firmware
