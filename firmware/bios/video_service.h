// INT 10h: the display, shown on the console by TextScreen.
//
// The state that guests look up stands in the BIOS data area: mode, cursor, sizes. There is one
// page of text, mode 3. Programs are told that there is neither EGA, VGA nor VESA, so they keep to
// these calls and do not write to a frame buffer that is not there.
#pragma once

#include "firmware/bios/call.h"
#include "firmware/bios/text_screen.h"

namespace calf::firmware {

class VideoService {
 public:
  VideoService(TextScreen& screen, const RealMemory& memory) : screen_(screen), memory_(memory) {}

  // False if there is no such function; registers are then as they were.
  bool handle(Call& call);

  // The terminal's cursor goes where the guest's is, if the guest shows it. For when a person is
  // about to type.
  void show_cursor();
  // Prints a text of our own at the cursor; '\n' starts a new line.
  void print(std::string_view text);

 private:
  TextScreen::Position cursor() const;
  void set_cursor(TextScreen::Position at);
  void set_mode(uint8_t mode);
  void write_string(Call& call);
  void character_generator(Call& call);

  TextScreen& screen_;
  const RealMemory& memory_;
};

}  // namespace calf::firmware
