#include "block/node_description.h"

#include <algorithm>

#include "block/base/size_text.h"

namespace calf::block {
namespace {

bool is_below(std::string_view key, std::string_view name) {
  return key.size() > name.size() && key.starts_with(name) && key[name.size()] == '.';
}

Error bad_parameter(std::string_view key, std::string_view expected) {
  return make_error(ErrorKind::kInvalid, "Parameter '{}' expects {}", key, expected);
}

}  // namespace

std::string to_text(const OptionValue& value) {
  if (const bool* b = std::get_if<bool>(&value)) return *b ? "on" : "off";
  if (const int64_t* i = std::get_if<int64_t>(&value)) return std::to_string(*i);
  if (const uint64_t* u = std::get_if<uint64_t>(&value)) return std::to_string(*u);
  if (const double* d = std::get_if<double>(&value)) return fmt::format("{}", *d);
  if (const std::string* s = std::get_if<std::string>(&value)) return *s;
  return "";
}

NodeDescription NodeDescription::of_file(std::string path) {
  NodeDescription file;
  file.set("driver", std::string("file"));
  file.set("filename", std::move(path));
  return file;
}

const OptionValue* NodeDescription::find(std::string_view key) const {
  for (const auto& [name, value] : items_) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool NodeDescription::has_child(std::string_view name) const {
  return std::any_of(items_.begin(), items_.end(), [&](const Item& item) {
    return item.first == name || is_below(item.first, name);
  });
}

std::optional<std::string> NodeDescription::text(std::string_view key) const {
  const OptionValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  return to_text(*value);
}

void NodeDescription::set(std::string key, OptionValue value) {
  for (auto& [name, old] : items_) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  items_.emplace_back(std::move(key), std::move(value));
}

void NodeDescription::set_child(std::string_view name, const NodeDescription& child) {
  for (const auto& [key, value] : child.items_)
    set(fmt::format("{}.{}", name, key), value);
}

std::optional<OptionValue> NodeDescription::take(std::string_view key) {
  auto it = std::find_if(items_.begin(), items_.end(),
                         [&](const Item& item) { return item.first == key; });
  if (it == items_.end()) return std::nullopt;
  OptionValue value = std::move(it->second);
  items_.erase(it);
  return value;
}

std::optional<std::string> NodeDescription::take_text(std::string_view key) {
  std::optional<OptionValue> value = take(key);
  if (!value) return std::nullopt;
  return to_text(*value);
}

Result<std::optional<bool>> NodeDescription::take_switch(std::string_view key) {
  std::optional<std::string> text = take_text(key);
  if (!text) return std::optional<bool>();
  if (*text == "on") return std::optional<bool>(true);
  if (*text == "off") return std::optional<bool>(false);
  return bad_parameter(key, "'on' or 'off'");
}

Result<std::optional<uint64_t>> NodeDescription::take_size(std::string_view key) {
  std::optional<std::string> text = take_text(key);
  if (!text) return std::optional<uint64_t>();
  Result<uint64_t> size = parse_size(*text);
  if (size.ok()) return std::optional<uint64_t>(*size);
  if (size.error().kind() == ErrorKind::kNoSpace) {
    return make_error(ErrorKind::kInvalid, "Value '{}' is out of range for parameter '{}'", *text,
                      key);
  }
  return bad_parameter(key,
                       "a non-negative number below 2^64\n"
                       "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, "
                       "peta-\nand exabytes, respectively.");
}

Result<std::optional<uint64_t>> NodeDescription::take_number(std::string_view key) {
  std::optional<std::string> text = take_text(key);
  if (!text) return std::optional<uint64_t>();
  bool plain = !text->empty() && text->find_first_not_of("0123456789") == std::string::npos;
  Result<uint64_t> number = parse_size(*text);
  if ((plain || text->starts_with("0x")) && number.ok()) return std::optional<uint64_t>(*number);
  return bad_parameter(key, "a number");
}

Result<std::optional<std::string>> NodeDescription::take_choice(
    std::string_view key, std::initializer_list<std::string_view> allowed) {
  std::optional<std::string> text = take_text(key);
  if (text && std::find(allowed.begin(), allowed.end(), *text) == allowed.end()) {
    return make_error(ErrorKind::kInvalid, "invalid parameter value: {}", *text);
  }
  return text;
}

NodeDescription NodeDescription::take_below(std::string_view name) {
  NodeDescription below;
  std::erase_if(items_, [&](Item& item) {
    if (!is_below(item.first, name)) return false;
    below.items_.emplace_back(item.first.substr(name.size() + 1), std::move(item.second));
    return true;
  });
  return below;
}

Result<NodeDescription> NodeDescription::take_child(std::string_view name) {
  if (std::optional<std::string> reference = take_text(name)) {
    return make_error(ErrorKind::kInvalid, "Cannot find device='{0}' nor node-name='{0}'",
                      *reference);
  }
  return take_below(name);
}

}  // namespace calf::block
