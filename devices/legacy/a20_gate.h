// A20Gate: the switch that once made addresses wrap at 1 MiB, shared by port 0x92, the keyboard
// controller and INT 15h AX=24xx.
//
// KVM has no way to mask an address line, so the gate is a bit that remembers: A20 is always on.
// Loaders that test by writing find it on, which is what they want.
#pragma once

#include <atomic>

namespace calf::devices {

class A20Gate {
 public:
  bool enabled() const { return enabled_.load(std::memory_order_relaxed); }
  void set(bool enabled) { enabled_.store(enabled, std::memory_order_relaxed); }

 private:
  std::atomic<bool> enabled_{true};
};

}  // namespace calf::devices
