// The guest's console on our standard input and output, with an escape key as QEMU has it:
//
//   Ctrl-a h  help      Ctrl-a x  end the guest      Ctrl-a b  send a break      Ctrl-a Ctrl-a  a
//   Ctrl-a for the guest
#pragma once

#include <functional>

#include "vmm/console/fd_channel.h"

namespace calf::vmm {

class StdioChannel final : public FdChannel {
 public:
  struct Actions {
    std::function<void()> quit;
    std::function<void()> help;
    std::function<void()> monitor;  // Ctrl-a c
    std::function<void()> send_break;
  };

  // `escapes`: false passes Ctrl-a like any other byte (standard input is not a terminal).
  StdioChannel(EventLoop& loop, Actions actions, bool escapes)
      : FdChannel(loop), actions_(std::move(actions)), escapes_(escapes) {}

 protected:
  void filter_input(std::span<const uint8_t> bytes, std::vector<uint8_t>& deliver) override;

 private:
  Actions actions_;
  bool escapes_;
  bool escape_seen_ = false;
};

}  // namespace calf::vmm
