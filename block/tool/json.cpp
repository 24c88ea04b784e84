#include "block/tool/json.h"

#include <fmt/format.h>

#include "block/base/log.h"

namespace calf::img {
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

std::string spaces(unsigned levels) {
  return std::string(size_t{levels} * 4, ' ');
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

Json& Json::push(Json value) {
  std::get<List>(value_).push_back(std::move(value));
  return *this;
}

Json& Json::add(std::string key, Json value) {
  std::get<Object>(value_).emplace_back(std::move(key), std::move(value));
  return *this;
}

bool Json::is_container() const {
  return std::holds_alternative<List>(value_) || std::holds_alternative<Object>(value_);
}

// A scalar as text, not quoted.
std::string Json::plain() const {
  if (const bool* b = std::get_if<bool>(&value_)) return *b ? "true" : "false";
  if (const uint64_t* u = std::get_if<uint64_t>(&value_)) return std::to_string(*u);
  if (const int64_t* i = std::get_if<int64_t>(&value_)) return std::to_string(*i);
  return std::get<std::string>(value_);
}

void Json::print(std::string& out, unsigned indent) const {
  if (const List* list = std::get_if<List>(&value_)) {
    out += "[\n";
    for (size_t i = 0; i < list->size(); ++i) {
      out += spaces(indent + 1);
      (*list)[i].print(out, indent + 1);
      out += i + 1 < list->size() ? ",\n" : "\n";
    }
    out += spaces(indent) + "]";
  } else if (const Object* object = std::get_if<Object>(&value_)) {
    out += "{\n";
    for (size_t i = 0; i < object->size(); ++i) {
      out += spaces(indent + 1) + json_string((*object)[i].first) + ": ";
      (*object)[i].second.print(out, indent + 1);
      out += i + 1 < object->size() ? ",\n" : "\n";
    }
    out += spaces(indent) + "}";
  } else if (std::holds_alternative<std::string>(value_)) {
    out += json_string(plain());
  } else {
    out += plain();
  }
}

void Json::print_lines(std::string& out, unsigned indent) const {
  auto member = [&](const std::string& key, const Json& value) {
    if (value.is_container()) {
      out += spaces(indent) + key + ":\n";
      value.print_lines(out, indent + 1);
    } else {
      out += spaces(indent) + key + ": " + quote_for_terminal(value.plain()) + "\n";
    }
  };
  if (const List* list = std::get_if<List>(&value_)) {
    for (size_t i = 0; i < list->size(); ++i)
      member(fmt::format("[{}]", i), (*list)[i]);
  } else if (const Object* object = std::get_if<Object>(&value_)) {
    for (const auto& [key, value] : *object) {
      std::string words = key;
      for (char& c : words) {
        if (c == '-') c = ' ';
      }
      member(words, value);
    }
  }
}

std::string Json::to_json() const {
  std::string out;
  print(out, 0);
  return out + "\n";
}

std::string Json::to_lines(unsigned indent) const {
  std::string out;
  print_lines(out, indent);
  return out;
}

}  // namespace calf::img
