// QEMU's option lists: "first,key=value,switch,key=a,,b".
//
// A comma inside a value is doubled. An element without '=' is the value of an implied key if it
// stands first, else a switch: "name" means name=on, "noname" is kept as written (parse_switch() of
// its user decides).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "block/base/result.h"

namespace calf::vmm {

struct KeyValue {
  std::string key;
  std::string value;
  bool has_value = true;  // false for an element without '='; value is then "on"
};

class KeyValueList {
 public:
  // `implied_key`: the key of a first element without '='; empty if there is none.
  static Result<KeyValueList> parse(std::string_view text, std::string_view implied_key = {});
  const std::vector<KeyValue>& items() const { return items_; }

 private:
  std::vector<KeyValue> items_;
};

// on, off, yes, no, true, false.
Result<bool> parse_switch(const KeyValue& item);
// A decimal or 0x number in [low, high].
Result<uint64_t> parse_number(std::string_view what, std::string_view text, uint64_t low,
                              uint64_t high);
// A number with an optional suffix b k M G T P E (powers of 1024, either case, fractions allowed).
// `default_unit` multiplies a number without suffix.
Result<uint64_t> parse_size(std::string_view what, std::string_view text, uint64_t default_unit);

}  // namespace calf::vmm
