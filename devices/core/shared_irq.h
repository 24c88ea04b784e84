// SharedIrq: several devices on one interrupt line (COM1 and COM3, a PCI INTx pin).
//
//   device A ──┐
//   device B ──┤ or ── line
//   device C ──┘
//
// The line is high while any input is.
#pragma once

#include <list>

#include "block/base/mutex.h"
#include "devices/core/irq.h"

namespace calf::devices {

class SharedIrq {
 public:
  // `line` outlives this object, this object its inputs' users.
  explicit SharedIrq(IrqLine& line) : line_(line) {}

  // One more input, low; owned here. Before the guest starts.
  IrqLine& add_input() {
    inputs_.emplace_back(*this);
    return inputs_.back();
  }

 private:
  class Input final : public IrqLine {
   public:
    explicit Input(SharedIrq& owner) : owner_(owner) {}
    void set_level(bool high) override { owner_.set_input(high_, high); }

   private:
    SharedIrq& owner_;
    bool high_ = false;  // guarded by the owner's mutex
  };

  void set_input(bool& input, bool high) {
    MutexLock lock(mutex_);
    if (input == high) return;
    input = high;
    unsigned before = high_count_;
    high_count_ = high ? high_count_ + 1 : high_count_ - 1;
    if ((before == 0) != (high_count_ == 0)) line_.set_level(high);
  }

  IrqLine& line_;
  Mutex mutex_;
  std::list<Input> inputs_;  // addresses stay
  unsigned high_count_ CALF_GUARDED_BY(mutex_) = 0;
};

}  // namespace calf::devices
