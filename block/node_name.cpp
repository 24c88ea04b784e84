#include "block/node_name.h"

#include <nlohmann/json.hpp>

#include "block/nbd_name.h"

namespace calf::block {
namespace {

using nlohmann::json;

// Objects and lists within one another; more is no description of a node.
constexpr unsigned kMaxNesting = 64;

Result<OptionValue> scalar(const json& value) {
  if (value.is_null()) return OptionValue(nullptr);
  if (value.is_boolean()) return OptionValue(value.get<bool>());
  if (value.is_number_unsigned()) return OptionValue(value.get<uint64_t>());
  if (value.is_number_integer()) return OptionValue(value.get<int64_t>());
  if (value.is_number_float()) return OptionValue(value.get<double>());
  std::string text = value.get<std::string>();
  if (text.find('\0') != std::string::npos) {
    return make_error(ErrorKind::kInvalid, "A JSON option has a NUL character in it");
  }
  return OptionValue(std::move(text));
}

// {"a": {"b": [1, 2]}} becomes a.b.0=1, a.b.1=2.
Result<void> flatten(const json& value, const std::string& prefix, unsigned depth,
                     NodeDescription* out) {
  if (depth > kMaxNesting) {
    return make_error(ErrorKind::kInvalid, "The JSON options are nested too deeply");
  }
  if (!value.is_structured()) {
    TRY(OptionValue option, scalar(value));
    if (out->has(prefix)) {
      return make_error(ErrorKind::kInvalid, "The option '{}' is given twice", prefix);
    }
    out->set(prefix, std::move(option));
    return {};
  }
  size_t index = 0;
  for (auto it = value.begin(); it != value.end(); ++it, ++index) {
    std::string key = value.is_object() ? it.key() : std::to_string(index);
    TRY_VOID(flatten(*it, prefix.empty() ? key : prefix + "." + key, depth + 1, out));
  }
  return {};
}

// What is wrong with JSON that does not parse, in the words of the program we stand in for where
// it has some for the case.
Error bad_json(std::string_view text, const json::parse_error& error) {
  bool blank = text.find_first_not_of(" \t\r\n") == std::string_view::npos;
  std::string reason = blank ? "Expecting a JSON value"
                       : error.byte > text.size()
                           ? "JSON parse error, premature EOI"
                           : fmt::format("JSON parse error at character {}", error.byte);
  return make_error(ErrorKind::kInvalid, "Could not parse the JSON options: {}", reason);
}

// Deep nesting would overflow the stack of the parser's users: counted before it runs.
bool nests_too_deeply(std::string_view text) {
  unsigned depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxNesting) return true;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return false;
}

// QEMU's JSON has strings in single quotes too.
std::string with_double_quotes(std::string_view text) {
  std::string out;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (quote == 0 && (c == '"' || c == '\'')) {
      quote = c;
      out += '"';
    } else if (c == '\\' && quote != 0 && i + 1 < text.size()) {
      char escaped = text[++i];
      if (escaped != '\'') out += c;
      out += escaped;
    } else if (quote != 0 && c == quote) {
      quote = 0;
      out += '"';
    } else {
      if (quote == '\'' && c == '"') out += '\\';
      out += c;
    }
  }
  return out;
}

Result<NodeDescription> parse_json_name(std::string_view given) {
  const std::string text = with_double_quotes(given);
  if (nests_too_deeply(text)) {
    return make_error(ErrorKind::kInvalid, "The JSON options are nested too deeply");
  }
  json value;
  try {
    value = json::parse(text);
  } catch (const json::parse_error& error) {
    return bad_json(text, error);
  }
  if (!value.is_object()) return Error(ErrorKind::kInvalid, "Invalid JSON object given");
  NodeDescription description;
  TRY_VOID(flatten(value, "", 0, &description));
  return description;
}

Result<NodeDescription> parse_blkdebug(std::string_view rest) {
  size_t colon = rest.find(':');
  if (colon == std::string_view::npos) {
    return Error(ErrorKind::kInvalid, "blkdebug requires both config file and image path");
  }
  NodeDescription node;
  node.set("driver", std::string("blkdebug"));
  if (colon > 0) node.set("config", std::string(rest.substr(0, colon)));
  TRY(NodeDescription image, parse_protocol_name(rest.substr(colon + 1)));
  node.set_child("image", image);
  return node;
}

Result<NodeDescription> parse_null(std::string_view protocol, std::string_view rest) {
  if (rest != "//") {
    return make_error(ErrorKind::kInvalid, "The only allowed filename for this driver is '{}://'",
                      protocol);
  }
  NodeDescription node;
  node.set("driver", std::string(protocol));
  return node;
}

// The word before the first colon, if that comes before any slash.
std::optional<std::string_view> protocol_of(std::string_view name) {
  size_t colon = name.find(':');
  if (colon == std::string_view::npos || name.find('/') < colon) return std::nullopt;
  return name.substr(0, colon);
}

}  // namespace

bool is_plain_path(std::string_view name) {
  return !protocol_of(name).has_value();
}

bool is_known_protocol(std::string_view protocol) {
  for (std::string_view known :
       {"blkdebug", "file", "nbd", "nbd+tcp", "nbd+unix", "null-aio", "null-co"}) {
    if (protocol == known) return true;
  }
  return false;
}

Result<NodeDescription> parse_protocol_name(std::string_view name) {
  std::optional<std::string_view> protocol = protocol_of(name);
  if (!protocol) return NodeDescription::of_file(std::string(name));
  std::string_view rest = name.substr(protocol->size() + 1);
  if (*protocol == "file") return NodeDescription::of_file(std::string(rest));
  if (*protocol == "blkdebug") return parse_blkdebug(rest);
  if (*protocol == "null-co" || *protocol == "null-aio") return parse_null(*protocol, rest);
  if (protocol->starts_with("nbd") && is_known_protocol(*protocol)) return parse_nbd_name(name);
  return make_error(ErrorKind::kInvalid, "Unknown protocol '{}'", *protocol);
}

Result<NodeDescription> parse_node_name(std::string_view name) {
  if (name.starts_with("json:")) return parse_json_name(name.substr(5));
  TRY(NodeDescription file, parse_protocol_name(name));
  NodeDescription description;
  description.set_child("file", file);
  return description;
}

}  // namespace calf::block
