// INT 16h: the keyboard, typed on the serial console.
//
//     console bytes -> decode_key -> ring in the BIOS data area -> guest
//
// Bytes are taken from the console only when a program asks for a key, and then one key, so a
// program that reads the serial port itself finds the rest there.
//
// A program that does nothing but ask "is there a key?" is put to rest until the next timer
// interrupt, so that a guest at a prompt does not keep a host processor busy.
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
  void reset() {
    pending_.clear();
    busy();
  }
  // The guest does something besides asking for keys.
  void busy() { empty_polls_ = 0; }

 private:
  std::optional<Key> type();
  std::optional<Key> next(bool extended, bool take);
  bool push(Key key);
  std::optional<Key> front() const;
  void pop();
  bool may_rest(const Call& call);

  KeySource& source_;
  devices::Clock& clock_;
  const RealMemory& memory_;
  // The start of an escape sequence, and when its last byte was taken.
  std::vector<uint8_t> pending_;
  std::chrono::nanoseconds last_byte_{0};
  // Questions in a row that had no key for an answer, and the tick count when the guest last
  // rested.
  unsigned empty_polls_ = 0;
  uint32_t rested_at_ = 0;
};

}  // namespace calf::firmware
