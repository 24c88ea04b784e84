#include "firmware/bios/keyboard_service.h"

#include "firmware/bios/areas.h"

namespace calf::firmware {
namespace {

// An ESC followed by nothing for so long was the key of that name.
constexpr std::chrono::milliseconds kEscapeTimeout{50};

// The functions of the first PC know 83 keys. Newer keys are turned into their older double, or, if
// they have none (nothing), are not there.
std::optional<Key> classic(Key key) {
  constexpr uint8_t kGrey = 0xE0;
  constexpr uint8_t kLastClassicScan = 0x84;
  if (key.scan > kLastClassicScan) return std::nullopt;
  if (key.character == kGrey && key.scan != 0) key.character = 0;
  return key;
}

constexpr uint16_t advance(uint16_t offset) {
  return static_cast<uint16_t>(offset + 2 < kKeyRingEndOffset ? offset + 2 : kKeyRingStartOffset);
}

// Guests may write what they like there.
constexpr bool in_ring(uint16_t offset) {
  return offset >= kKeyRingStartOffset && offset < kKeyRingEndOffset && offset % 2 == 0;
}

constexpr devices::Gpa ring_slot(uint16_t offset) {
  return linear(0x40, offset);
}

}  // namespace

bool KeyboardService::handle(Call& call) {
  RealModeRegs& regs = call.regs;
  uint8_t function = regs.ax.high();
  switch (function) {
    case 0x00:
    case 0x10: {  // read a key
      auto key = next(function == 0x10, true);
      if (!key) {
        call.flow = Flow::kWait;
        return true;
      }
      regs.ax.set_word(key->word());
      return true;
    }
    case 0x01:
    case 0x11: {  // is there one?
      auto key = next(function == 0x11, false);
      if (!key && may_rest(call)) call.flow = Flow::kWait;
      call.set_caller_flag(kFlagZero, !key);
      if (key) regs.ax.set_word(key->word());
      return true;
    }
    case 0x02:  // shift keys: a terminal does not tell
      regs.ax.set_low(memory_.byte(bda::kShiftFlags));
      return true;
    case 0x12:
      regs.ax.set_word(memory_.byte(bda::kShiftFlags));
      return true;
    case 0x03:  // repeat rate
      return true;
    case 0x05:  // push a key
      regs.ax.set_low(push({regs.cx.high(), regs.cx.low()}) ? 0 : 1);
      return true;
    case 0x09:  // functions: 10h to 12h
      regs.ax.set_low(0x20);
      return true;
    case 0x0A:  // keyboard ID
      regs.bx.set_word(0x41AB);
      return true;
    default:
      return false;
  }
}

// The next key that a person has typed; nothing if none is complete.
std::optional<Key> KeyboardService::type() {
  for (;;) {
    Decoded decoded;
    if (!pending_.empty()) decoded = decode_key(pending_, false);
    if (decoded.length == 0) {
      if (auto byte = source_.take()) {
        pending_.push_back(*byte);
        last_byte_ = clock_.monotonic();
        continue;
      }
      bool complete = clock_.monotonic() - last_byte_ >= kEscapeTimeout;
      if (pending_.empty() || !complete) return std::nullopt;
      decoded = decode_key(pending_, true);
    }
    pending_.erase(pending_.begin(), pending_.begin() + decoded.length);
    if (decoded.key) return decoded.key;
  }
}

// The next key as one family of functions sees it; it stays in the ring unless taken.
std::optional<Key> KeyboardService::next(bool extended, bool take) {
  for (;;) {
    auto key = front();
    if (key) busy();
    if (!key) {
      auto typed = type();
      if (!typed || !push(*typed)) return std::nullopt;
      continue;
    }
    if (!extended) {
      auto seen = classic(*key);
      if (!seen) {
        pop();
        continue;
      }
      key = seen;
    }
    if (take) pop();
    return key;
  }
}

// Only while timer interrupts come, or the guest would never wake.
bool KeyboardService::may_rest(const Call& call) {
  constexpr unsigned kPatience = 64;
  constexpr uint32_t kVirtual8086 = 1u << 17;
  uint32_t ticks = memory_.dword(bda::kTicks);
  if (call.repeated || (call.regs.flags & kVirtual8086) != 0) return false;
  if (empty_polls_++ == 0) rested_at_ = ticks;
  if (empty_polls_ < kPatience || ticks == rested_at_) return false;
  rested_at_ = ticks;
  return true;
}

bool KeyboardService::push(Key key) {
  uint16_t tail = memory_.word(bda::kKeyTail);
  if (!in_ring(tail)) return false;
  uint16_t after = advance(tail);
  if (after == memory_.word(bda::kKeyHead)) return false;
  memory_.set_word(ring_slot(tail), key.word());
  memory_.set_word(bda::kKeyTail, after);
  return true;
}

std::optional<Key> KeyboardService::front() const {
  uint16_t head = memory_.word(bda::kKeyHead);
  uint16_t tail = memory_.word(bda::kKeyTail);
  if (!in_ring(head) || !in_ring(tail)) {
    memory_.set_word(bda::kKeyHead, kKeyRingStartOffset);
    memory_.set_word(bda::kKeyTail, kKeyRingStartOffset);
    return std::nullopt;
  }
  if (head == tail) return std::nullopt;
  uint16_t word = memory_.word(ring_slot(head));
  return Key{static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word)};
}

void KeyboardService::pop() {
  memory_.set_word(bda::kKeyHead, advance(memory_.word(bda::kKeyHead)));
}

}  // namespace calf::firmware
