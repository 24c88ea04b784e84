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

namespace calf::nbd {

struct ServerOptions {
  // Clients at a time; others wait.
  unsigned max_clients = 1;
  // Goes on when the last client has left.
  bool persistent = false;
  // Told about clients that broke the protocol. May be null.
  std::function<void(std::string_view line)> message;
};

class Server {
 public:
  Server(Executor& executor, Export exported, ServerOptions options)
      : executor_(executor),
        exported_(std::move(exported)),
        options_(std::move(options)),
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
    // Its timer runs out while the client has not finished the handshake, or when the server stops.
    // Counts up with each timer: one that finds another number is no longer wanted.
    uint64_t timer_number = 0;
  };

  using ClientPointer = std::shared_ptr<Client>;

  static Task<void> serve(Server* self, ClientPointer client);
  // Holds the client, not the server: nobody waits for it.
  static Task<void> hang_up_later(Executor* executor, ClientPointer client,
                                  std::chrono::seconds patience);
  void start_timer(const ClientPointer& client, std::chrono::seconds patience);
  void end_timer(Client& client);

  Executor& executor_;
  Export exported_;
  ServerOptions options_;
  WaitQueue changed_;
  Fd listening_;
  std::list<ClientPointer> clients_;
  bool stopping_ = false;
};

}  // namespace calf::nbd
