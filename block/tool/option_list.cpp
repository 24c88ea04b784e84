#include "block/tool/option_list.h"

#include <algorithm>

namespace calf::img {
namespace {

// Takes the text up to a single comma off the front of `text`; doubled commas become one.
std::string take_element(std::string_view& text) {
  std::string element;
  while (!text.empty()) {
    char c = text.front();
    text.remove_prefix(1);
    if (c == ',') {
      if (text.empty() || text.front() != ',') return element;
      text.remove_prefix(1);
    }
    element += c;
  }
  return element;
}

}  // namespace

Result<OptionList> OptionList::parse(std::string_view text, std::string_view first_name) {
  OptionList list;
  bool first = true;
  while (!text.empty()) {
    std::string element = take_element(text);
    size_t equals = element.find('=');
    if (equals != std::string::npos) {
      list.set(element.substr(0, equals), element.substr(equals + 1));
    } else if (element == "help" || element == "?") {
      list.wants_help_ = true;
    } else if (first && !first_name.empty()) {
      list.set(first_name, element);
    } else if (element.starts_with("no") && element != "nocow") {
      list.set(element.substr(2), "off");
    } else {
      list.set(element, "on");
    }
    first = false;
  }
  return list;
}

std::optional<std::string> OptionList::get(std::string_view name) const {
  for (const auto& [key, value] : items_) {
    if (key == name) return value;
  }
  return std::nullopt;
}

void OptionList::set(std::string_view name, std::string_view value) {
  for (auto& [key, old] : items_) {
    if (key == name) {
      old = value;
      return;
    }
  }
  items_.emplace_back(name, value);
}

void OptionList::remove(std::string_view name) {
  std::erase_if(items_, [&](const auto& item) { return item.first == name; });
}

bool is_valid_option_list(std::string_view text) {
  if (text.empty() || text.front() == ',') return false;
  size_t commas = text.size() - (text.find_last_not_of(',') + 1);
  return commas % 2 == 0;
}

}  // namespace calf::img
