// Text as JSON has it.
#pragma once

#include <string>
#include <string_view>

namespace calf {

// A JSON string with its quotes: control characters and everything beyond ASCII as \uXXXX, bytes
// that are not UTF-8 as U+FFFD.
std::string json_string(std::string_view text);

}  // namespace calf
