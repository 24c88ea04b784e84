// What -serial, -debugcon and -chardev name, and how it becomes a channel.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "block/base/log.h"
#include "block/base/result.h"
#include "vmm/console/fd_channel.h"
#include "vmm/console/stdio_channel.h"

namespace calf::vmm {

struct SerialSpec {
  enum class Kind : uint8_t { kNone, kNull, kStdio, kFile, kPty, kUnix, kChardev };
  Kind kind = Kind::kNull;
  std::string path;      // file, unix; the id for kChardev
  bool monitor = false;  // mon:stdio — Ctrl-C goes to the guest, Ctrl-a x ends it
  bool append = false;   // file
  bool server = false;   // unix
  bool wait = true;      // unix server: the guest starts when a peer is there

  friend bool operator==(const SerialSpec&, const SerialSpec&) = default;
};

// QEMU's forms: none, null, stdio, mon:stdio, pty, file:PATH,
// unix:PATH[,server[=on|off]][,wait[=on|off]], chardev:ID.
Result<SerialSpec> parse_serial_spec(std::string_view text);

// Opens the channel. `label` ("serial0") names it in messages; a pty's path is told on `log`. Null
// for kNone.
Result<std::unique_ptr<devices::ByteChannel>> open_serial(const SerialSpec& spec,
                                                          std::string_view label, EventLoop& loop,
                                                          Log& log, StdioChannel::Actions actions);

}  // namespace calf::vmm
