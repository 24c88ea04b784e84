// What a terminal sends for a key, turned into what a PC keyboard would have told the BIOS.
//
// Scan codes are those of set 1 on a US keyboard. Escape sequences are those of xterm, the VT
// family and the Linux console (ECMA-48 CSI and SS3 forms); ESC before a character means Alt.
//
// Not supported: characters outside of ASCII (their bytes come as they are, with scan code 0).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace calf::firmware {

// As INT 16h returns it in AX.
struct Key {
  uint8_t scan = 0;
  uint8_t character = 0;

  constexpr uint16_t word() const { return static_cast<uint16_t>(scan << 8 | character); }
  friend constexpr bool operator==(Key, Key) = default;
};

struct Decoded {
  // Bytes that belong to the key. 0: they are the start of a sequence, more must come.
  unsigned length = 0;
  // Nothing for a sequence that means no key.
  std::optional<Key> key;
};

// The first key of `bytes`, which is not empty. With `complete`, nothing more will come: what looks
// like the start of a sequence is then taken as its single bytes.
Decoded decode_key(std::span<const uint8_t> bytes, bool complete);

// No sequence is longer.
inline constexpr unsigned kMaxKeyLength = 16;

}  // namespace calf::firmware
