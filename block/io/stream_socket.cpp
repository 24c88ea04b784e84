#include "block/io/stream_socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "block/io/host_name.h"

namespace calf {
namespace {

constexpr time_t kConnectSeconds = 30;
constexpr size_t kMaxPieces = 1024;
constexpr int kBacklog = 64;

Result<sockaddr_un> local_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return make_error(ErrorKind::kInvalid, "UNIX socket path '{}' is too long", path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// What an address stands for, best first; never none. Waits.
Result<std::vector<SystemAddress>> resolve(const SocketAddress& address, NoHost no_host) {
  if (address.is_local()) {
    TRY(sockaddr_un local, local_address(address.path));
    return std::vector{SystemAddress(&local, sizeof local)};
  }
  NameSearch search;
  search.no_host = no_host;
  return find_host(address.host, address.port, search);
}

Result<Fd> connect_one(const SystemAddress& address) {
  Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error::from_errno(errno);
  timeval limit{.tv_sec = kConnectSeconds, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(fd.get(), address.get(), address.size()) != 0) {
    return Error::from_errno(errno == EINPROGRESS ? ETIMEDOUT : errno);
  }
  return fd;
}

// On a worker thread: waits.
Result<Fd> connect_any(const SocketAddress& address) {
  TRY(std::vector<SystemAddress> list, resolve(address, NoHost::kThisHost));
  Result<Fd> fd = Error::from_errno(EADDRNOTAVAIL);
  for (const SystemAddress& one : list) {
    fd = connect_one(one);
    if (fd.ok()) return fd;
  }
  return std::move(fd.error())
      .with_context(fmt::format("Failed to connect to '{}'", address.text()));
}

// A socket file that nobody listens on any more stands in the way of bind().
void remove_stale_socket(const std::string& path, const SystemAddress& address) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0 || !S_ISSOCK(st.st_mode)) return;
  Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int r = ::connect(probe.get(), address.get(), address.size());
  if (r != 0 && errno == ECONNREFUSED) ::unlink(path.c_str());
}

Result<Fd> bind_one(const SystemAddress& address) {
  Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Error::from_errno(errno);
  int on = 1;
  if (address.family() != AF_UNIX) {
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  }
  if (::bind(fd.get(), address.get(), address.size()) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    return Error::from_errno(errno);
  }
  return fd;
}

}  // namespace

std::string SocketAddress::text() const {
  return is_local() ? path : fmt::format("{}:{}", host, port);
}

Result<StreamSocket> StreamSocket::adopt(Executor& executor, Fd fd) {
  int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return Error::from_errno(errno);
  }
  int on = 1;
  // Fails for local sockets, which need neither.
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  Fd room(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLOUT;
  if (!room.valid() || ::epoll_ctl(room.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) {
    return Error::from_errno(errno);
  }
  return StreamSocket(executor, std::move(fd), std::move(room));
}

Async<StreamSocket> StreamSocket::connect(Executor& executor, SocketAddress address) {
  CO_TRY(Fd fd, co_await executor.offload([&address] { return connect_any(address); }));
  co_return adopt(executor, std::move(fd));
}

Async<bool> StreamSocket::receive_or_end(std::span<uint8_t> to) {
  size_t done = 0;
  while (done < to.size()) {
    ssize_t n = ::recv(fd_.get(), to.data() + done, to.size() - done, MSG_DONTWAIT);
    if (n > 0) {
      done += static_cast<size_t>(n);
      continue;
    }
    if (n == 0) {
      if (done == 0) co_return false;
      co_return Error::from_errno(ECONNRESET);
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) co_return Error::from_errno(errno);
    int64_t events = co_await executor_->poll_in(fd_.get());
    if (events < 0) co_return Error::from_errno(static_cast<int>(-events));
  }
  co_return true;
}

Async<> StreamSocket::receive(std::span<uint8_t> to) {
  CO_TRY(bool there, co_await receive_or_end(to));
  if (!there && !to.empty()) co_return Error::from_errno(ECONNRESET);
  co_return Result<void>();
}

Async<> StreamSocket::send(std::span<iovec> pieces) {
  while (!pieces.empty()) {
    if (pieces.front().iov_len == 0) {
      pieces = pieces.subspan(1);
      continue;
    }
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = std::min(pieces.size(), kMaxPieces);
    ssize_t n = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) co_return Error::from_errno(errno);
      int64_t events = co_await executor_->poll_in(room_.get());
      if (events < 0) co_return Error::from_errno(static_cast<int>(-events));
      continue;
    }
    auto sent = static_cast<size_t>(n);
    while (sent > 0) {
      size_t part = std::min(sent, pieces.front().iov_len);
      pieces.front().iov_base = static_cast<uint8_t*>(pieces.front().iov_base) + part;
      pieces.front().iov_len -= part;
      sent -= part;
      if (pieces.front().iov_len == 0) pieces = pieces.subspan(1);
    }
  }
  co_return Result<void>();
}

Async<> StreamSocket::send(std::span<const uint8_t> bytes) {
  iovec one{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  co_return co_await send(std::span<iovec>(&one, 1));
}

void StreamSocket::shut_down() {
  ::shutdown(fd_.get(), SHUT_RDWR);
}

void StreamSocket::stop_reading() {
  ::shutdown(fd_.get(), SHUT_RD);
}

Result<Fd> listen_on(const SocketAddress& address) {
  TRY(std::vector<SystemAddress> list, resolve(address, NoHost::kAllAddresses));
  if (address.is_local()) remove_stale_socket(address.path, list.front());
  Result<Fd> fd = Error::from_errno(EADDRNOTAVAIL);
  for (const SystemAddress& one : list) {
    fd = bind_one(one);
    if (fd.ok()) return fd;
  }
  return std::move(fd.error())
      .with_context(fmt::format("Failed to listen on '{}'", address.text()));
}

Async<StreamSocket> accept_on(Executor& executor, int listening_fd) {
  while (true) {
    Fd fd(::accept4(listening_fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) co_return StreamSocket::adopt(executor, std::move(fd));
    // The connection went before we came.
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) co_return Error::from_errno(errno);
    int64_t events = co_await executor.poll_in(listening_fd);
    if (events < 0) co_return Error::from_errno(static_cast<int>(-events));
    // Shut down by its owner.
    if ((events & (POLLHUP | POLLERR | POLLNVAL)) != 0) co_return Error::from_errno(ECANCELED);
  }
}

}  // namespace calf
