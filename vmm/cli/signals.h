// Signals as events of the control thread.
#pragma once

#include <functional>
#include <memory>

#include "block/base/fd.h"
#include "block/base/result.h"
#include "vmm/event_loop.h"

namespace calf::vmm {

// Blocks the signals that SignalWatch reads, in this thread and those it starts, and ignores
// SIGPIPE. Before any thread.
void block_signals();

class SignalWatch {
 public:
  struct Actions {
    std::function<void()> terminate;  // SIGINT, SIGTERM
    std::function<void()> hang_up;    // SIGHUP: the terminal is gone
    std::function<void()> stop;       // SIGTSTP: called before the process stops itself
    std::function<void()> resumed;    // and when it goes on
  };
  static Result<std::unique_ptr<SignalWatch>> create(EventLoop& loop, Actions actions);
  ~SignalWatch();

 private:
  SignalWatch(EventLoop& loop, Actions actions, Fd fd)
      : loop_(loop), actions_(std::move(actions)), fd_(std::move(fd)) {}
  void on_signal();

  EventLoop& loop_;
  Actions actions_;
  Fd fd_;
};

}  // namespace calf::vmm
