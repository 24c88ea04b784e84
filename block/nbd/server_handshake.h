// The server's side of the handshake: fixed newstyle, until the client has chosen the export.
#pragma once

#include <optional>

#include "block/io/stream_socket.h"
#include "block/nbd/export.h"

namespace calf::nbd {

// What was agreed on.
struct Session {
  bool structured = false;
  // The client may ask for the state of blocks.
  bool allocation_context = false;
};

// Nothing if the client left in peace. An error ends the connection.
Async<std::optional<Session>> negotiate(StreamSocket& socket, const Export& exported);

}  // namespace calf::nbd
