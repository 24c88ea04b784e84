// INT 16h: the keyboard, typed on the serial console.
//
//     console bytes -> decode_key -> ring in the BIOS data area -> guest
//
// Bytes are taken from the console only when a program asks for a key, and then one key, so a
// program that reads the serial port itself finds the rest there.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include "devices/core/clock.h"
#include "firmware/bios/bios.h"
#include "firmware/bios/call.h"
#include "firmware/bios/key_decoder.h"

namespace calf::firmware {

class KeyboardService {
 public:
  KeyboardService(KeySource& source, devices::Clock& clock, const RealMemory& memory)
      : source_(source), clock_(clock), memory_(memory) {}

  // False if there is no such function; registers are then as they were.
  bool handle(Call& call);
  // Forgets what was typed half.
  void reset() { pending_.clear(); }

 private:
  std::optional<Key> type();
  std::optional<Key> next(bool extended, bool take);
  bool push(Key key);
  std::optional<Key> front() const;
  void pop();

  KeySource& source_;
  devices::Clock& clock_;
  const RealMemory& memory_;
  // The start of an escape sequence, and when its last byte was taken.
  std::vector<uint8_t> pending_;
  std::chrono::nanoseconds last_byte_{0};
};

}  // namespace calf::firmware
