// The terminal in raw mode, and always back again.
//
// While a guest's console is the terminal, keys go to the guest unedited. The old mode returns when
// the object is destroyed, at exit(), on a fatal signal of our own (SIGSEGV, SIGABRT, …) and before
// the process is stopped (Ctrl-Z).
#pragma once

#include <memory>

#include "block/base/result.h"

namespace calf::vmm {

class RawTerminal {
 public:
  // `keep_signals`: Ctrl-C and Ctrl-\ go on sending signals to us instead of bytes to the guest.
  // One at a time. Does nothing, successfully, if `fd` is not a terminal.
  static Result<std::unique_ptr<RawTerminal>> enter(int fd, bool keep_signals);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

  bool active() const { return active_; }
  // Around a stop of the process: restore() before it, and again raw() when it continues.
  void restore();
  void raw();

 private:
  RawTerminal() = default;
  int fd_ = -1;
  bool keep_signals_ = false;
  bool active_ = false;
};

}  // namespace calf::vmm
