// StreamSocket: a connected socket for coroutines. Nothing blocks the executor: calls that would
// wait are made again when the socket is ready.
//
// The executor knows how to wait for "readable" only. An epoll descriptor that watches the socket
// for room to write is readable when there is some, so that is what writers wait for.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "block/base/fd.h"
#include "block/io/executor.h"

namespace calf {

// Where a server listens.
struct SocketAddress {
  // A path of this host; else host and port.
  std::string path;
  std::string host;
  std::string port;

  bool is_local() const { return !path.empty(); }
  // "PATH" or "HOST:PORT".
  std::string text() const;
};

class StreamSocket {
 public:
  // Takes a connected socket over.
  static Result<StreamSocket> adopt(Executor& executor, Fd fd);
  // Errors: "Failed to connect to 'ADDRESS': …". Gives up after half a minute.
  static Async<StreamSocket> connect(Executor& executor, SocketAddress address);

  // Fills `to`; one reader at a time. kIo with ECONNRESET if the peer closes before that.
  Async<> receive(std::span<uint8_t> to);
  // The same; false if the peer closed before the first byte.
  Async<bool> receive_or_end(std::span<uint8_t> to);
  // Sends all of it; one writer at a time. The array is used up.
  Async<> send(std::span<iovec> pieces);
  Async<> send(std::span<const uint8_t> bytes);

  // Everybody who waits, and whoever comes, gets an error or the end.
  void shut_down();
  // The same for readers only: what is under way can still be answered.
  void stop_reading();

 private:
  StreamSocket(Executor& executor, Fd fd, Fd room)
      : executor_(&executor), fd_(std::move(fd)), room_(std::move(room)) {}

  Executor* executor_;
  Fd fd_;
  // epoll: the socket can be written to.
  Fd room_;
};

// A socket that listens. A file that is left of a server that has gone is replaced.
Result<Fd> listen_on(const SocketAddress& address);
// The next connection.
Async<StreamSocket> accept_on(Executor& executor, int listening_fd);

}  // namespace calf
