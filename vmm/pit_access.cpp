#include "vmm/pit_access.h"

namespace calf::vmm {
namespace {

constexpr unsigned kControl = 3;
constexpr unsigned kSpeakerCounter = 2;

// Which byte of a counter the next access means; KVM's numbers.
enum State : uint8_t { kLow = 1, kHigh = 2, kLowThenHigh = 3, kHighThen = 4 };

// Bits of the control word.
constexpr unsigned kReadBack = 3;  // where a counter's number would be
constexpr uint8_t kNoCount = 0x20;
constexpr uint8_t kNoStatus = 0x10;

void latch_count(kvm_pit_channel_state& counter) {
  if (counter.count_latched != 0) return;
  counter.latched_count = static_cast<uint16_t>(counter.count);
  counter.count_latched = counter.rw_mode;
}

void latch_status(kvm_pit_channel_state& counter) {
  if (counter.status_latched != 0) return;
  counter.status =
      static_cast<uint8_t>(counter.rw_mode << 4 | (counter.mode & 7) << 1 | counter.bcd);
  counter.status_latched = 1;
}

void load_count(kvm_pit_channel_state& counter, uint16_t value) {
  counter.count = value == 0 ? 0x10000 : value;
}

void write_control(kvm_pit_state2& state, uint8_t value) {
  const unsigned number = value >> 6;
  if (number == kReadBack) {
    for (unsigned i = 0; i < 3; ++i) {
      if ((value >> (i + 1) & 1) == 0) continue;
      if ((value & kNoCount) == 0) latch_count(state.channels[i]);
      if ((value & kNoStatus) == 0) latch_status(state.channels[i]);
    }
    return;
  }
  kvm_pit_channel_state& counter = state.channels[number];
  const uint8_t bytes = value >> 4 & 3;
  if (bytes == 0) return latch_count(counter);
  counter.rw_mode = counter.read_state = counter.write_state = bytes;
  const uint8_t mode = value >> 1 & 7;
  counter.mode = mode > 5 ? mode & 3 : mode;
  counter.bcd = value & 1;
}

}  // namespace

uint8_t read_pit(kvm_pit_state2& state, unsigned index) {
  if (index >= kControl) return 0;  // write-only
  kvm_pit_channel_state& counter = state.channels[index];
  if (counter.status_latched != 0) {
    counter.status_latched = 0;
    return counter.status;
  }
  const bool latched = counter.count_latched != 0;
  const uint32_t count = latched ? counter.latched_count : counter.count;
  uint8_t& next = latched ? counter.count_latched : counter.read_state;
  switch (next) {
    case kHigh:
      if (latched) next = 0;
      return static_cast<uint8_t>(count >> 8);
    case kLowThenHigh:
      next = kHighThen;
      return static_cast<uint8_t>(count);
    case kHighThen:
      next = latched ? 0 : kLowThenHigh;
      return static_cast<uint8_t>(count >> 8);
    case kLow:
    default:
      if (latched) next = 0;
      return static_cast<uint8_t>(count);
  }
}

void write_pit(kvm_pit_state2& state, unsigned index, uint8_t value) {
  if (index == kControl) return write_control(state, value);
  kvm_pit_channel_state& counter = state.channels[index];
  switch (counter.write_state) {
    case kHigh:
      return load_count(counter, static_cast<uint16_t>(value << 8));
    case kLowThenHigh:
      counter.write_latch = value;
      counter.write_state = kHighThen;
      return;
    case kHighThen:
      counter.write_state = kLowThenHigh;
      return load_count(counter, static_cast<uint16_t>(counter.write_latch | value << 8));
    case kLow:
    default:
      return load_count(counter, value);
  }
}

uint8_t read_speaker(const kvm_pit_state2& state) {
  const bool on = (state.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) != 0;
  return static_cast<uint8_t>((on ? 2 : 0) | (state.channels[kSpeakerCounter].gate & 1));
}

void write_speaker(kvm_pit_state2& state, uint8_t value) {
  state.channels[kSpeakerCounter].gate = value & 1;
  if ((value & 2) != 0) {
    state.flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
  } else {
    state.flags &= ~uint32_t{KVM_PIT_FLAGS_SPEAKER_DATA_ON};
  }
}

}  // namespace calf::vmm
