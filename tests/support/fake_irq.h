// An interrupt line that remembers.
#pragma once

#include "devices/core/irq.h"

namespace calf::devices {

class FakeIrq final : public IrqLine {
 public:
  void set_level(bool high) override {
    if (high && !level_) ++edges_;
    level_ = high;
  }
  bool level() const { return level_; }
  // Changes from low to high so far.
  int edges() const { return edges_; }

 private:
  bool level_ = false;
  int edges_ = 0;
};

}  // namespace calf::devices
