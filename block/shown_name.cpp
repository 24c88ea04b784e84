#include "block/shown_name.h"

#include <algorithm>
#include <variant>

#include "block/base/json_text.h"
#include "block/nbd_name.h"
#include "block/node_name.h"

namespace calf::block {
namespace {

struct Member;
using Members = std::vector<Member>;
struct Member {
  std::string key;
  // One of the two.
  OptionValue value;
  Members children;
  bool is_object = false;
};

struct Shown {
  // Empty if no plain name says it all.
  std::string plain;
  Members members;
};

struct Strong {
  std::string_view driver;
  // Those that change the data; a final '.' takes all below.
  std::vector<std::string_view> options;
};

const std::vector<std::string_view>& strong_options(std::string_view driver) {
  static const std::vector<Strong> kStrong = {
      {"blkdebug",
       {"config", "inject-error.", "set-state.", "align", "max-transfer", "opt-write-zero",
        "max-write-zero", "opt-discard", "max-discard"}},
      {"file", {"filename"}},
      {"host_device", {"filename"}},
      {"luks", {"key-secret"}},
      {"nbd",
       {"path", "host", "port", "export", "tls-creds", "tls-hostname", "server.",
        "x-dirty-bitmap"}},
      {"null-co", {"read-zeroes", "size"}},
      {"null-aio", {"read-zeroes", "size"}},
      {"qcow2", {"encrypt."}},
      {"raw", {"offset", "size"}},
  };
  static const std::vector<std::string_view> kNone;
  for (const Strong& strong : kStrong) {
    if (strong.driver == driver) return strong.options;
  }
  return kNone;
}

bool is_strong(std::string_view driver, std::string_view key) {
  const auto& options = strong_options(driver);
  return std::any_of(options.begin(), options.end(), [&](std::string_view option) {
    return option.back() == '.' ? key.starts_with(option) : key == option;
  });
}

bool is_filter(std::string_view driver) {
  return driver == "blkdebug";
}

// The order in which QEMU's dictionaries list their keys (contract section 5.3).
uint32_t bucket_of(std::string_view key) {
  uint32_t value = 0x238F13AFU * static_cast<uint32_t>(key.size());
  for (size_t i = 0; i < key.size(); ++i) {
    value += static_cast<uint32_t>(static_cast<uint8_t>(key[i])) << (i * 5 % 24);
  }
  return (1103515243U * value + 12345U) % 512;
}

void print(const Members& members, std::string* out) {
  std::vector<const Member*> order;
  // The latest of a bucket comes first.
  for (auto it = members.rbegin(); it != members.rend(); ++it)
    order.push_back(&*it);
  std::stable_sort(order.begin(), order.end(), [](const Member* a, const Member* b) {
    return bucket_of(a->key) < bucket_of(b->key);
  });
  *out += "{";
  for (const Member* member : order) {
    if (member != order.front()) *out += ", ";
    *out += json_string(member->key) + ": ";
    if (member->is_object) {
      print(member->children, out);
    } else if (const auto* text = std::get_if<std::string>(&member->value)) {
      *out += json_string(*text);
    } else if (const bool* flag = std::get_if<bool>(&member->value)) {
      *out += *flag ? "true" : "false";
    } else if (std::holds_alternative<std::nullptr_t>(member->value)) {
      *out += "null";
    } else {
      *out += to_text(member->value);
    }
  }
  *out += "}";
}

std::string plain_path(const std::string& path) {
  return path.empty() || is_plain_path(path) ? path : "./" + path;
}

// The plain name of a protocol or filter; empty if it has none.
std::string protocol_name(const std::string& driver, const NodeDescription& node,
                          const Members& members, const std::string& child) {
  if (driver == "file" || driver == "host_device") {
    return plain_path(node.text("filename").value_or(""));
  }
  if (driver == "null-co" || driver == "null-aio") {
    return members.size() == 1 ? driver + "://" : "";
  }
  if (driver == "nbd") return nbd_uri(node);
  if (driver == "blkdebug") {
    bool simple = std::all_of(members.begin(), members.end(), [](const Member& m) {
      return m.key == "driver" || m.key == "config" || m.key == "image";
    });
    if (!simple || child.empty()) return "";
    return fmt::format("blkdebug:{}:{}", node.text("config").value_or(""), child);
  }
  return "";
}

Shown show(NodeDescription node, std::string driver) {
  Shown shown;
  bool changed = false;  // more than a format over a file
  for (const auto& [key, value] : node.items()) {
    if (!is_strong(driver, key)) continue;
    shown.members.push_back({key, value, {}, false});
    changed = true;
  }
  shown.members.push_back({"driver", OptionValue(driver), {}, false});
  std::string child_key = is_filter(driver) ? "image" : "file";
  Shown child;
  bool child_is_protocol = false;
  if (node.has_child(child_key)) {
    NodeDescription below = node.take_below(child_key);
    std::string child_driver = below.text("driver").value_or("file");
    child_is_protocol = child_driver != "raw" && child_driver != "qcow2" &&
                        child_driver != "luks" && child_driver != "vmdk";
    child = show(std::move(below), child_driver);
    shown.members.push_back({child_key, {}, child.members, true});
  }
  if (child_key == "file" && !child.members.empty()) {
    if (!changed && child_is_protocol) shown.plain = child.plain;
  } else {
    shown.plain = protocol_name(driver, node, shown.members, child.plain);
  }
  return shown;
}

}  // namespace

std::string shown_name(const NodeDescription& description, std::string_view format) {
  Shown shown = show(description, description.text("driver").value_or(std::string(format)));
  if (!shown.plain.empty()) return shown.plain;
  std::string out = "json:";
  print(shown.members, &out);
  return out;
}

std::string file_below(const NodeDescription& description) {
  NodeDescription node = description;
  while (true) {
    std::string driver = node.text("driver").value_or("file");
    const char* child = node.has_child("image") ? "image" : "file";
    if (!node.has_child(child)) {
      if (driver != "file" && driver != "host_device") return "";
      return plain_path(node.text("filename").value_or(""));
    }
    node = node.take_below(child);
  }
}

}  // namespace calf::block
