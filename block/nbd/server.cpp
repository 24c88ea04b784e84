#include "block/nbd/server.h"

#include <sys/socket.h>

#include <cerrno>

#include "block/nbd/server_handshake.h"

namespace calf::nbd {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::seconds kHandshakePatience = 10s;
constexpr std::chrono::seconds kStopPatience = 5s;
// Before the next look, where the host has no descriptors left.
constexpr auto kNoDescriptorPause = 100ms;

bool is_shortage(const Error& error) {
  return error.kind() == ErrorKind::kResource || error.sys_errno() == ENOBUFS;
}

}  // namespace

void Server::start_timer(const ClientPointer& client, std::chrono::seconds patience) {
  end_timer(*client);
  ++timers_;
  ClientPointer held = client;
  executor_.spawn(hang_up_later(this, std::move(held), patience));
}

Task<void> Server::hang_up_later(Server* self, ClientPointer client,
                                 std::chrono::seconds patience) {
  auto sleep = self->executor_.sleep_until(std::chrono::steady_clock::now() + patience);
  client->timer = &sleep.op;
  int64_t woken = co_await sleep;
  if (client->timer == &sleep.op) client->timer = nullptr;
  if (woken != -ECANCELED) client->socket.shut_down();
  --self->timers_;
  self->changed_.wake_all();
}

void Server::end_timer(Client& client) {
  if (client.timer != nullptr) executor_.cancel(*client.timer);
  client.timer = nullptr;
}

Task<void> Server::serve(Server* self, ClientPointer client) {
  self->start_timer(client, kHandshakePatience);
  Result<std::optional<Session>> session = co_await negotiate(client->socket, self->exported_);
  self->end_timer(*client);
  Result<void> result;
  if (!session.ok()) result = std::move(session.error());
  if (session.ok() && *session && !self->stopping_) {
    ServerConnection connection(self->executor_, client->socket, self->exported_, **session,
                                self->memory_);
    result = co_await connection.run();
    self->end_timer(*client);
  }
  // A timer that is ending holds the client for a moment yet; the peer sees the end now.
  client->socket.shut_down();
  // One that goes in the middle of something is no more than that.
  bool abused = !result.ok() && result.error().kind() == ErrorKind::kInvalid;
  if (abused && self->options_.message) self->options_.message(result.error().message());
  self->clients_.remove(client);
  if (self->clients_.empty() && !self->options_.persistent) self->stop();
  self->changed_.wake_all();
}

void Server::stop() {
  if (stopping_) return;
  stopping_ = true;
  ::shutdown(listening_.get(), SHUT_RDWR);
  for (const ClientPointer& client : clients_) {
    client->socket.stop_reading();
    start_timer(client, kStopPatience);
  }
  changed_.wake_all();
}

unsigned Server::max_connections() const {
  return exported_.multi_conn ? options_.max_clients * kConnectionsPerClient : 1;
}

Async<> Server::run(Fd listening) {
  listening_ = std::move(listening);
  Result<void> result;
  while (!stopping_) {
    if (clients_.size() >= max_connections()) {
      co_await changed_.wait();
      continue;
    }
    Result<StreamSocket> socket = co_await accept_on(executor_, listening_.get());
    if (stopping_) break;
    if (!socket.ok() && is_shortage(socket.error())) {
      auto when = std::chrono::steady_clock::now() + kNoDescriptorPause;
      co_await executor_.sleep_until(when);
      continue;
    }
    if (!socket.ok()) {
      result = std::move(socket.error());
      break;
    }
    Client fresh{std::move(*socket), nullptr};
    auto client = std::make_shared<Client>(std::move(fresh));
    clients_.push_back(client);
    executor_.spawn(serve(this, std::move(client)));
  }
  stop();
  while (!clients_.empty() || timers_ != 0)
    co_await changed_.wait();
  if (exported_.writable) {
    Result<void> flushed = co_await exported_.node->flush();
    if (result.ok()) result = std::move(flushed);
  }
  co_return result;
}

}  // namespace calf::nbd
