// ClientConnection: requests to an NBD server, many at a time over one socket.
//
// Replies come in any order. Of those who wait for theirs one reads the socket, hands each reply to
// whom it concerns, and passes the reading on when its own has come: nothing runs when nobody asks.
//
// The server is not trusted. A reply that fits no request, or does not fit it, breaks the
// connection: everything in flight and to come fails with EIO.
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>

#include "block/base/byte_range.h"
#include "block/io/io_slice.h"
#include "block/io/stream_socket.h"
#include "block/io/sync.h"
#include "block/nbd/client_handshake.h"

namespace calf::nbd {

class ClientConnection {
 public:
  // Over a socket that is connected.
  static Async<std::unique_ptr<ClientConnection>> open(Executor& executor, StreamSocket socket,
                                                       std::string name, std::string context);

  const ExportInfo& info() const { return info_; }

  // At most info().max_block bytes each.
  Async<> read(uint64_t offset, IoSlice to);
  Async<> write(uint64_t offset, IoSlice from, bool fua);
  // kFlush, kTrim, kWriteZeroes.
  Async<> command(Command command, uint16_t flags, ByteRange range);
  // The first extent of the range. Only if info().context.
  Async<StatusExtent> block_status(ByteRange range);
  // Says good-bye. Nothing is in flight.
  Async<> disconnect();

 private:
  struct Pending {
    Request request;
    // Of a read.
    IoSlice to;
    uint64_t received = 0;
    std::optional<StatusExtent> status;
    std::optional<Error> error;
    bool done = false;
  };

  ClientConnection(Executor& executor, StreamSocket socket)
      : socket_(std::move(socket)), send_lock_(executor), changed_(executor) {}

  Async<> exchange(Pending* pending, IoSlice payload);
  Async<> send(const Pending& pending, IoSlice payload);
  // Reads one reply or chunk. An error breaks the connection.
  Async<> receive_one();
  Async<> receive_simple(be32 error, uint64_t cookie);
  Async<> receive_chunk(Chunk chunk);
  Async<> receive_data(Pending* pending, uint64_t length);
  // Where a stretch of a read's answer goes; nothing if it was not asked for.
  static std::optional<IoSlice> place_of(Pending* pending, uint64_t offset, uint64_t length);
  Result<void> take_hole(Pending* pending, std::span<const uint8_t> body);
  Result<void> take_status(Pending* pending, std::span<const uint8_t> body);
  Result<void> take_error(Pending* pending, std::span<const uint8_t> body);
  Async<> receive_into(IoSlice to);
  Pending* find(uint64_t cookie);
  void break_off(const Error& why);

  StreamSocket socket_;
  ExportInfo info_;
  AsyncMutex send_lock_;
  WaitQueue changed_;
  bool reading_ = false;
  uint64_t next_cookie_ = 1;
  std::list<Pending*> pending_;
  std::optional<Error> broken_;
};

}  // namespace calf::nbd
