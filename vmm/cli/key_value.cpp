#include "vmm/cli/key_value.h"

#include <charconv>
#include <cmath>

namespace calf::vmm {
namespace {

// Takes one element off the front of `text`: up to a single comma, doubled ones undone.
std::string take_element(std::string_view& text) {
  std::string element;
  while (!text.empty()) {
    char c = text.front();
    text.remove_prefix(1);
    if (c == ',') {
      if (!text.starts_with(',')) break;
      text.remove_prefix(1);
    }
    element += c;
  }
  return element;
}

uint64_t unit_of(char suffix) {
  switch (suffix) {
    case 'b':
    case 'B':
      return 1;
    case 'k':
    case 'K':
      return uint64_t{1} << 10;
    case 'm':
    case 'M':
      return uint64_t{1} << 20;
    case 'g':
    case 'G':
      return uint64_t{1} << 30;
    case 't':
    case 'T':
      return uint64_t{1} << 40;
    case 'p':
    case 'P':
      return uint64_t{1} << 50;
    case 'e':
    case 'E':
      return uint64_t{1} << 60;
    default:
      return 0;
  }
}

}  // namespace

Result<KeyValueList> KeyValueList::parse(std::string_view text, std::string_view implied_key) {
  KeyValueList list;
  std::string_view whole = text;
  bool first = true;
  while (!text.empty()) {
    std::string element = take_element(text);
    if (element.empty()) {
      return make_error(ErrorKind::kInvalid, "'{}' has an empty element between commas", whole);
    }
    KeyValue item;
    size_t equals = element.find('=');
    if (equals != std::string::npos) {
      item.key = element.substr(0, equals);
      item.value = element.substr(equals + 1);
    } else if (first && !implied_key.empty()) {
      item.key = implied_key;
      item.value = element;
    } else {
      item.key = element;
      item.value = "on";
      item.has_value = false;
    }
    list.items_.push_back(std::move(item));
    first = false;
  }
  return list;
}

Result<bool> parse_switch(const KeyValue& item) {
  if (item.value == "on" || item.value == "yes" || item.value == "true") return true;
  if (item.value == "off" || item.value == "no" || item.value == "false") return false;
  return make_error(ErrorKind::kInvalid, "'{}' must be on or off, not '{}'", item.key, item.value);
}

Result<uint64_t> parse_number(std::string_view what, std::string_view text, uint64_t low,
                              uint64_t high) {
  std::string_view digits = text;
  int base = 10;
  if (digits.starts_with("0x") || digits.starts_with("0X")) {
    digits.remove_prefix(2);
    base = 16;
  }
  uint64_t value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc() || end != digits.data() + digits.size() || value < low || value > high) {
    return make_error(ErrorKind::kInvalid, "{} must be a number from {} to {}, not '{}'", what, low,
                      high, text);
  }
  return value;
}

Result<uint64_t> parse_size(std::string_view what, std::string_view text, uint64_t default_unit) {
  auto bad = [&] {
    return make_error(ErrorKind::kInvalid, "{} must be a size such as 512, 512M or 1.5G, not '{}'",
                      what, text);
  };
  if (text.empty()) return bad();
  uint64_t unit = unit_of(text.back());
  std::string_view digits = text;
  if (unit != 0 && !text.starts_with("0x")) {
    digits.remove_suffix(1);
  } else {
    unit = default_unit;
  }
  if (digits.find('.') == std::string_view::npos) {
    Result<uint64_t> value = parse_number(what, digits, 0, UINT64_MAX / unit);
    if (!value.ok()) return bad();
    return *value * unit;
  }
  double value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value,
                                      std::chars_format::fixed);
  if (error != std::errc() || end != digits.data() + digits.size() || value < 0) return bad();
  double bytes = std::round(value * static_cast<double>(unit));
  if (bytes >= 0x1p63) return bad();
  return static_cast<uint64_t>(bytes);
}

}  // namespace calf::vmm
