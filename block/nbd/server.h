// Server: shows one disk to several clients over NBD.
//
// Ends when it is stopped, or (unless persistent) when the last client has left. Then nothing is in
// flight and what was written is durable.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string_view>

#include "block/io/stream_socket.h"
#include "block/io/sync.h"
#include "block/nbd/export.h"
#include "block/nbd/server_connection.h"

namespace calf::nbd {

struct ServerOptions {
  // Clients at a time; others wait. One that comes several times (where there may be several) is
  // not held up: it would wait for itself, with connections that it does not use yet. So
  // kConnectionsPerClient of each are taken; memory for requests is bounded by the clients.
  unsigned max_clients = 1;
  // Goes on when the last client has left.
  bool persistent = false;
  // Told about clients that broke the protocol. May be null.
  std::function<void(std::string_view line)> message;
};

class Server {
 public:
  static constexpr unsigned kConnectionsPerClient = 16;

  Server(Executor& executor, Export exported, ServerOptions options)
      : executor_(executor),
        exported_(std::move(exported)),
        options_(std::move(options)),
        memory_(executor, uint64_t{options_.max_clients} * kMaxPayload),
        changed_(executor) {
    exported_.multi_conn = options_.max_clients > 1;
  }

  Async<> run(Fd listening);
  // Takes no more clients and no more requests; run() ends when those at work are answered, or
  // after a few seconds.
  void stop();

 private:
  struct Client {
    StreamSocket socket;
    // The sleep after which its socket is shut down: while the client has not finished the
    // handshake, and when the server stops. Null: none.
    IoOp* timer = nullptr;
  };

  using ClientPointer = std::shared_ptr<Client>;

  static Task<void> serve(Server* self, ClientPointer client);
  static Task<void> hang_up_later(Server* self, ClientPointer client,
                                  std::chrono::seconds patience);
  unsigned max_connections() const;
  void start_timer(const ClientPointer& client, std::chrono::seconds patience);
  void end_timer(Client& client);

  Executor& executor_;
  Export exported_;
  ServerOptions options_;
  RequestMemory memory_;
  WaitQueue changed_;
  Fd listening_;
  std::list<ClientPointer> clients_;
  unsigned timers_ = 0;  // run() waits for them
  bool stopping_ = false;
};

}  // namespace calf::nbd
