#include "block/base/size_text.h"

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <optional>

namespace calf {
namespace {

std::optional<unsigned> suffix_shift(char c) {
  switch (std::toupper(static_cast<unsigned char>(c))) {
    case 'B':
      return 0;
    case 'K':
      return 10;
    case 'M':
      return 20;
    case 'G':
      return 30;
    case 'T':
      return 40;
    case 'P':
      return 50;
    case 'E':
      return 60;
    default:
      return std::nullopt;
  }
}

bool is_hex(std::string_view text) {
  return text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

Error malformed() {
  return Error(ErrorKind::kInvalid, "malformed size");
}
Error too_large() {
  return Error(ErrorKind::kNoSpace, "size out of range");
}

struct Digits {
  uint64_t value = 0;
  bool overflow = false;
};

// Digits off the front of `text`.
std::optional<Digits> take_digits(std::string_view& text, unsigned base) {
  Digits digits;
  size_t count = 0;
  for (; count < text.size(); ++count) {
    char c = text[count];
    unsigned digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<unsigned>(c - '0');
    } else if (base == 16 && std::isxdigit(static_cast<unsigned char>(c)) != 0) {
      digit = static_cast<unsigned>(std::tolower(static_cast<unsigned char>(c)) - 'a') + 10;
    } else {
      break;
    }
    digits.overflow |= __builtin_mul_overflow(digits.value, uint64_t{base}, &digits.value);
    digits.overflow |= __builtin_add_overflow(digits.value, uint64_t{digit}, &digits.value);
  }
  if (count == 0) return std::nullopt;
  text.remove_prefix(count);
  return digits;
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  bool hex = is_hex(text);
  if (hex) text.remove_prefix(2);
  std::optional<Digits> whole = take_digits(text, hex ? 16 : 10);
  if (!whole) return malformed();
  double fraction = 0;
  if (!hex && !text.empty() && text.front() == '.') {
    size_t digits = 1;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9')
      ++digits;
    // "0." in front: strtod() takes it with no digits behind it, too.
    fraction = std::strtod(("0" + std::string(text.substr(0, digits))).c_str(), nullptr);
    text.remove_prefix(digits);
  }
  unsigned shift = 0;
  if (!text.empty()) {
    // In hexadecimal, b and e are digits, so these never get here as suffixes.
    std::optional<unsigned> found = suffix_shift(text.front());
    if (!found || text.size() != 1) return malformed();
    shift = *found;
  }
  if (fraction > 0 && shift == 0) return malformed();
  // Half up, as a whole number of bytes.
  auto extra =
      static_cast<uint64_t>(std::floor(fraction * static_cast<double>(uint64_t{1} << shift) + 0.5));
  uint64_t value = 0;
  bool overflow = whole->overflow;
  overflow |= __builtin_mul_overflow(whole->value, uint64_t{1} << shift, &value);
  overflow |= __builtin_add_overflow(value, extra, &value);
  if (overflow) return too_large();
  return value;
}

bool is_suffixed_hex(std::string_view text) {
  return is_hex(text) && suffix_shift(text.back()).has_value() &&
         std::isxdigit(static_cast<unsigned char>(text.back())) == 0;
}

}  // namespace calf
