// ConsoleMerge: one console for a guest that prints everything twice.
//
// What a guest prints by INT 10h goes to the serial console here. Boot loaders that are set up for
// a serial line (GRUB's `terminal_output console serial`, SYSLINUX's `SERIAL 0`) write the same
// text to that line themselves; a person would see each character twice.
//
//   INT 10h  ──►  held while the guest writes the line itself  ──►  printed, if nothing followed
//   COM1     ──►  the UART prints it; what INT 10h holds is dropped: it was the same
//
// As long as the guest leaves COM1 alone, INT 10h is printed at once. Text that is held is printed
// when it has been the guest's last word for half a second, or is more than a screen, unless the
// line has shown just that.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "block/base/mutex.h"
#include "devices/core/clock.h"

namespace calf::firmware {

class ConsoleMerge {
 public:
  using Print = std::function<void(std::span<const uint8_t>)>;
  static constexpr std::chrono::milliseconds kPatience{500};
  static constexpr size_t kScreenful = 8192;

  ConsoleMerge(devices::Clock& clock, Print print) : clock_(clock), print_(std::move(print)) {}

  void reset();
  // Text of INT 10h: UTF-8 and escapes.
  void print(std::span<const uint8_t> text);
  // The guest has written a byte to the console's serial port. Any thread; prints nothing.
  void note_serial(uint8_t byte);
  // The guest does something else: held text that waited long enough is printed.
  void settle();

 private:
  std::string take_if_due(bool now) CALF_REQUIRES(mutex_);
  void emit(const std::string& text);

  devices::Clock& clock_;
  Print print_;
  Mutex mutex_;
  bool mirrored_ CALF_GUARDED_BY(mutex_) = false;  // the guest writes the line itself
  std::string held_ CALF_GUARDED_BY(mutex_);
  std::chrono::nanoseconds held_since_ CALF_GUARDED_BY(mutex_){0};
  std::string recent_ CALF_GUARDED_BY(mutex_);  // printable characters that the line has shown
};

}  // namespace calf::firmware
