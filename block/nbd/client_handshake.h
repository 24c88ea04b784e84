// The client's side of the handshake: fixed newstyle.
#pragma once

#include <optional>
#include <string>

#include "block/io/stream_socket.h"
#include "block/nbd/protocol.h"

namespace calf::nbd {

// What the server offers. It is not trusted: the numbers are checked, but may lie about content.
struct ExportInfo {
  uint64_t size = 0;
  uint16_t flags = 0;
  // Offsets and lengths of requests are multiples of it (a power of two).
  uint32_t min_block = 1;
  uint32_t max_block = kMaxPayload;
  bool structured = false;
  // The id under which block states come (0 is one too: qemu-nbd uses it); none: the server tells
  // none.
  std::optional<uint32_t> context;

  bool has(uint16_t flag) const { return (flags & flag) != 0; }
};

// `context`: which states of blocks are wanted, kAllocationContext as a rule.
Async<ExportInfo> choose_export(StreamSocket& socket, std::string name, std::string context);

}  // namespace calf::nbd
