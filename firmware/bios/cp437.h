// The PC's character set, code page 437, as Unicode.
#pragma once

#include <cstdint>
#include <string>

namespace calf::firmware {

// Appends the glyph of `code` as UTF-8. Codes below 20h are glyphs here too, not controls; 0 and
// FFh are blanks.
void append_cp437(std::string& out, uint8_t code);

}  // namespace calf::firmware
