#include "devices/legacy/reset_ports.h"

namespace calf::devices {

uint8_t Port92::read_byte(uint64_t offset) {
  if (offset != 0) return 0xff;
  return a20_.enabled() ? kA20 : 0;
}

void Port92::write_byte(uint64_t offset, uint8_t value) {
  if (offset != 0) return;
  a20_.set((value & kA20) != 0);
  if ((value & kFastReset) != 0) machine_.request_reset(ResetReason::kPort92);
}

uint8_t ResetControl::read_byte(uint64_t offset) {
  if (offset != 0) return 0xff;
  MutexLock lock(mutex_);
  return value_;
}

void ResetControl::write_byte(uint64_t offset, uint8_t value) {
  if (offset != 0) return;
  bool go = false;
  {
    MutexLock lock(mutex_);
    go = (value & ~value_ & kResetCpu) != 0;
    value_ = value & kImplemented;
  }
  if (go) machine_.request_reset(ResetReason::kResetControl);
}

void ResetControl::reset() {
  MutexLock lock(mutex_);
  value_ = 0;
}

}  // namespace calf::devices
