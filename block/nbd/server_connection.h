// ServerConnection: the requests of one client, after the handshake.
//
//     socket ── read request ──┬── spawn: node.read/write/… ── reply ──> socket
//                              └── spawn: …                  (one reply at a time)
//
// The client is not trusted: what it may have in flight is bounded in number and bytes, every range
// is checked, and what breaks the protocol ends the connection, nothing else.
#pragma once

#include <vector>

#include "block/io/stream_socket.h"
#include "block/io/sync.h"
#include "block/nbd/export.h"
#include "block/nbd/protocol.h"
#include "block/nbd/server_handshake.h"

namespace calf::nbd {

// What the requests of all clients together may take. At least kMaxPayload when nothing is in
// flight.
struct RequestMemory {
  RequestMemory(Executor& executor, uint64_t size)
      : left(size), turn(executor), answered(executor) {}

  uint64_t left;
  // Of those who wait for memory: a large request would never get it beside many small ones.
  AsyncMutex turn;
  // Somebody's request has been answered.
  WaitQueue answered;
};

class ServerConnection {
 public:
  // All of them outlive the connection.
  ServerConnection(Executor& executor, StreamSocket& socket, const Export& exported,
                   Session session, RequestMemory& memory)
      : executor_(executor),
        socket_(socket),
        exported_(exported),
        session_(session),
        memory_(memory),
        reply_lock_(executor) {}

  // Until the client leaves; every request has been answered then.
  Async<> run();

 private:
  struct Job {
    Command command = Command::kRead;
    uint16_t flags = 0;
    uint64_t cookie = 0;
    ByteRange range;
    std::vector<uint8_t> payload;
    // Its share of what may be in flight.
    uint64_t reserved = 0;
  };

  Async<bool> next(Job* job);
  Task<void> reserve(Job* job);
  void release(const Job& job);
  static Task<void> handle(ServerConnection* self, Job job);
  Result<void> check(const Job& job) const;
  Async<> perform(Job& job);
  Async<> read(const Job& job);
  Async<> read_chunks(const Job& job, std::span<uint8_t> room);
  Async<> block_status(const Job& job);
  Async<> reply_error(const Job& job, Error error);
  Async<> reply_done(const Job& job, std::span<const uint8_t> data);
  Async<> reply_chunk(const Job& job, ChunkType type, bool done, std::vector<uint8_t> head,
                      std::span<const uint8_t> data);

  Executor& executor_;
  StreamSocket& socket_;
  const Export& exported_;
  Session session_;
  RequestMemory& memory_;
  AsyncMutex reply_lock_;
  unsigned in_flight_ = 0;
  uint64_t bytes_in_flight_ = 0;
};

}  // namespace calf::nbd
