// Health: what becomes of an image in which damage was met.
//
// Damage found while running is an EIO to the request, one message, and, if the image is writable,
// no further writes: the corrupt bit goes into the header so that the next user knows.
#pragma once

#include <string_view>

#include "block/base/result.h"
#include "block/qcow2/image.h"

namespace calf::qcow2 {

class Health {
 public:
  Health(MessageSink message, bool writable) : message_(std::move(message)), writable_(writable) {}

  // The engine was about to write, or could not tell what it would overwrite: no more writes.
  Error fatal(std::string_view what) {
    if (writable_ && !poisoned_) {
      poisoned_ = true;
      say(
          fmt::format("qcow2: Marking image as corrupt: {}; further corruption events will be "
                      "suppressed",
                      what));
    } else {
      return harmless(what);
    }
    return make_error(ErrorKind::kCorrupt, "{}", what);
  }

  // Something that cannot be read; the rest of the image is usable.
  Error harmless(std::string_view what) {
    if (!said_ && !poisoned_) {
      said_ = true;
      say(
          fmt::format("qcow2: Image is corrupt: {}; further non-fatal corruption events will be "
                      "suppressed",
                      what));
    }
    return make_error(ErrorKind::kCorrupt, "{}", what);
  }

  void say(std::string_view line) const {
    if (message_) message_(line);
  }
  // No more writes, and the corrupt bit belongs into the header.
  bool poisoned() const { return poisoned_; }

 private:
  MessageSink message_;
  bool writable_;
  bool poisoned_ = false;
  bool said_ = false;
};

}  // namespace calf::qcow2
