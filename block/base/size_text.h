// Sizes as people write them: "1.5M", "0x200", "64k". Contract section 2.1.
#pragma once

#include <cstdint>
#include <string_view>

#include "block/base/result.h"

namespace calf {

// kInvalid for text that is no size, kNoSpace for one that does not fit in 64 bits.
Result<uint64_t> parse_size(std::string_view text);
// Hexadecimal with a suffix: taken, and worth a warning.
bool is_suffixed_hex(std::string_view text);

}  // namespace calf
