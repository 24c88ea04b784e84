// Json: a small ordered tree with two ways to print it, as qemu-img prints its own: JSON with four
// spaces a level, and indented "key: value" lines. The order of keys is the order of insertion (the
// contract fixes it, section 5.3).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "block/base/json_text.h"

namespace calf::img {

class Json {
 public:
  using List = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json(bool value) : value_(value) {}
  Json(uint64_t value) : value_(value) {}
  Json(uint32_t value) : value_(uint64_t{value}) {}
  Json(int64_t value) : value_(value) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(const char* value) : value_(std::string(value)) {}

  static Json list() { return Json(Value(List{})); }
  static Json object() { return Json(Value(Object{})); }

  // For lists and objects, respectively.
  Json& push(Json value);
  Json& add(std::string key, Json value);

  // With a final newline.
  std::string to_json() const;
  // The members of an object as lines, `indent` levels of four spaces deep.
  std::string to_lines(unsigned indent) const;

 private:
  using Value = std::variant<bool, uint64_t, int64_t, std::string, List, Object>;
  explicit Json(Value value) : value_(std::move(value)) {}
  void print(std::string& out, unsigned indent) const;
  void print_lines(std::string& out, unsigned indent) const;
  bool is_container() const;
  std::string plain() const;

  Value value_;
};

using calf::json_string;

}  // namespace calf::img
