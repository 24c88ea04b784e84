#include "block/tool/json.h"

#include <fmt/format.h>

#include "block/base/log.h"

namespace calf::img {
namespace {

std::string spaces(unsigned levels) {
  return std::string(size_t{levels} * 4, ' ');
}

}  // namespace

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
