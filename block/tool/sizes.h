// Numbers of bytes as people type them: 64M, 1.5k, 0x1000. Contract section 2.1.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "block/base/result.h"
#include "block/base/size_text.h"
#include "block/tool/context.h"

namespace calf::img {

using calf::is_suffixed_hex;
using calf::parse_size;

// For positional sizes and the like: prints the error that names `what`, and gives nothing.
std::optional<uint64_t> size_argument(const Context& context, std::string_view what,
                                      std::string_view text, uint64_t min = 0,
                                      uint64_t max = INT64_MAX);

// "1.5 GiB": three significant digits, the unit in which the number is below 1000.
std::string human_size(uint64_t bytes);

}  // namespace calf::img
