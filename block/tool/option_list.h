// Lists "name=value,name=value" (-o, --image-opts, --object): a comma in a value is doubled, a name
// alone is a switch, later values replace earlier ones. Contract section 2.2.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "block/base/result.h"

namespace calf::img {

class OptionList {
 public:
  // `first_name`: what a first element without '=' is the value of; empty: a switch like the rest.
  static Result<OptionList> parse(std::string_view text, std::string_view first_name = {});

  // Of several with one name the last.
  std::optional<std::string> get(std::string_view name) const;
  void set(std::string_view name, std::string_view value);
  void remove(std::string_view name);
  // An element `help` or `?`.
  bool wants_help() const { return wants_help_; }
  const std::vector<std::pair<std::string, std::string>>& items() const { return items_; }

 private:
  std::vector<std::pair<std::string, std::string>> items_;
  bool wants_help_ = false;
};

// False for what -o refuses as a whole: empty, a comma first, a single comma last.
bool is_valid_option_list(std::string_view text);

}  // namespace calf::img
