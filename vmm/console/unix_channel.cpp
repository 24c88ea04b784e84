#include "vmm/console/unix_channel.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace calf::vmm {
namespace {

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return make_error(ErrorKind::kInvalid, "UNIX socket path '{}' must have 1 to {} bytes", path,
                      sizeof address.sun_path - 1);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<Fd> make_socket() {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error::from_errno(errno, "Could not make a UNIX socket");
  return fd;
}

}  // namespace

UnixChannel::~UnixChannel() {
  if (!listener_.valid()) return;
  loop().remove(listener_.get());
  ::unlink(path_.c_str());
}

Result<void> UnixChannel::listen(const std::string& path, bool wait) {
  TRY(sockaddr_un address, address_of(path));
  TRY(listener_, make_socket());
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) ::unlink(path.c_str());
  if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 ||
      ::listen(listener_.get(), 1) < 0) {
    Error error = Error::from_errno(errno, fmt::format("Could not listen at '{}'", path));
    listener_.reset();
    return error;
  }
  path_ = path;
  set_closed_callback([this] {
    detach();
    connected_ = false;
  });
  if (wait) on_connection();
  return loop().add(listener_.get(), EPOLLIN, [this](uint32_t) { on_connection(); });
}

void UnixChannel::on_connection() {
  Fd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  // A second peer is turned away while the first is there.
  if (!peer.valid() || connected_) return;
  connected_ = use(std::move(peer)).ok();
}

Result<void> UnixChannel::use(Fd peer) {
  // Each direction is watched on its own, and epoll knows a descriptor only once.
  Fd out(::fcntl(peer.get(), F_DUPFD_CLOEXEC, 0));
  if (!out.valid()) return Error::from_errno(errno, "Could not use a socket");
  return attach(std::move(peer), std::move(out));
}

Result<void> UnixChannel::connect(const std::string& path) {
  TRY(sockaddr_un address, address_of(path));
  TRY(Fd fd, make_socket());
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
    return Error::from_errno(errno, fmt::format("Could not connect to '{}'", path));
  }
  set_closed_callback([this] { detach(); });
  return use(std::move(fd));
}

}  // namespace calf::vmm
