// NodeDescription: what a user said about one node and those below it, before it is opened.
//
// It is a flat list of options with dotted keys, the form that json: names, option lists and plain
// names all come down to (node_name.h):
//
//     driver = qcow2                       ┌ qcow2 ──── backing ──> null-co
//     file.driver = file                   └── file ──> file a.qcow2
//     file.filename = a.qcow2
//     backing.driver = null-co
//
// Whoever opens a node *takes* the options that it knows out of the description and hands the
// sub-descriptions of its children down. What is left at the end was not understood, and is refused
// by name: an option is never dropped silently.
//
// Descriptions come from users only. A name that stands in an image never becomes one by parsing
// (open_gate.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "block/base/result.h"

namespace calf::block {

// A scalar as it was given: text stays text, a JSON number a number.
using OptionValue = std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string>;

// "on", "512", …: as it would stand in an option list.
std::string to_text(const OptionValue& value);

class NodeDescription {
 public:
  using Item = std::pair<std::string, OptionValue>;

  NodeDescription() = default;
  // A file of this host: driver "file".
  static NodeDescription of_file(std::string path);

  bool empty() const { return items_.empty(); }
  const std::vector<Item>& items() const { return items_; }
  const OptionValue* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  // Is there "name" or anything below "name."?
  bool has_child(std::string_view name) const;
  // The text of `key`, which stays.
  std::optional<std::string> text(std::string_view key) const;

  // Replaces an older value.
  void set(std::string key, OptionValue value);
  void set_child(std::string_view name, const NodeDescription& child);

  // The same, and gone from the description.
  std::optional<OptionValue> take(std::string_view key);
  std::optional<std::string> take_text(std::string_view key);
  // Errors as the contract has them (section 2.1): "Parameter 'KEY' expects …".
  Result<std::optional<bool>> take_switch(std::string_view key);
  Result<std::optional<uint64_t>> take_size(std::string_view key);
  Result<std::optional<uint64_t>> take_number(std::string_view key);
  // One of `allowed`; "invalid parameter value: X" otherwise.
  Result<std::optional<std::string>> take_choice(std::string_view key,
                                                 std::initializer_list<std::string_view> allowed);
  // Everything below "name.", without that prefix; empty if there is nothing.
  NodeDescription take_below(std::string_view name);
  // The child node `name`. Fails for a reference to a node by its name: nobody has named any.
  Result<NodeDescription> take_child(std::string_view name);

 private:
  std::vector<Item> items_;
};

}  // namespace calf::block
