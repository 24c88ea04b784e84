#include "vmm/console/stdio_channel.h"

namespace calf::vmm {
namespace {
constexpr uint8_t kCtrlA = 0x01;

void call(const std::function<void()>& action) {
  if (action) action();
}
}  // namespace

void StdioChannel::filter_input(std::span<const uint8_t> bytes, std::vector<uint8_t>& deliver) {
  for (uint8_t byte : bytes) {
    if (!escape_seen_) {
      if (escapes_ && byte == kCtrlA) {
        escape_seen_ = true;
      } else {
        deliver.push_back(byte);
      }
      continue;
    }
    escape_seen_ = false;
    switch (byte) {
      case kCtrlA:
      case 'a':
        deliver.push_back(kCtrlA);
        break;
      case 'x':
        call(actions_.quit);
        break;
      case 'c':
        call(actions_.monitor);
        break;
      case 'b':
        call(actions_.send_break);
        break;
      case 'h':
      case '?':
        call(actions_.help);
        break;
      default:  // an unknown command is swallowed, as QEMU does
        break;
    }
  }
}

}  // namespace calf::vmm
