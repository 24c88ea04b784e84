#include "block/tool/sizes.h"

#include <fmt/format.h>

#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace calf::img {
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

std::optional<uint64_t> size_argument(const Context& context, std::string_view what,
                                      std::string_view text, uint64_t min, uint64_t max) {
  Result<uint64_t> size = parse_size(text);
  if (size.ok() && is_suffixed_hex(text)) {
    context.warning(
        fmt::format("Using a multiplier suffix on hex numbers is deprecated: {}", text));
  }
  if (size.ok() && *size >= min && *size <= max) return *size;
  if (size.ok() || size.error().kind() == ErrorKind::kNoSpace) {
    context.errorf("Invalid {} specified. Must be between {} and {}.", what, min, max);
  } else {
    context.errorf("Invalid {} specified. You may use k, M, G, T, P or E suffixes for", what);
    context.error("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
  }
  return std::nullopt;
}

std::string human_size(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  unsigned unit = 0;
  auto value = static_cast<double>(bytes);
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  char text[64];
  std::snprintf(text, sizeof text, "%0.3g %s", value, kUnits[unit]);
  return text;
}

}  // namespace calf::img
