#include "block/io/host_name.h"

#include <ares.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/time.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstring>
#include <optional>
#include <span>

namespace calf {
namespace {

using Addresses = std::vector<SystemAddress>;
using Clock = std::chrono::steady_clock;

std::optional<in_port_t> parse_port(const std::string& text) {
  uint16_t number = 0;
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end || number == 0) return std::nullopt;
  return htons(number);
}

SystemAddress v4(in_addr address, in_port_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_addr = address;
  out.sin_port = port;
  return {&out, sizeof out};
}

SystemAddress v6(in6_addr address, in_port_t port, uint32_t scope = 0) {
  sockaddr_in6 out{};
  out.sin6_family = AF_INET6;
  out.sin6_addr = address;
  out.sin6_port = port;
  out.sin6_scope_id = scope;
  return {&out, sizeof out};
}

Addresses without_name(NoHost meaning, in_port_t port) {
  bool all = meaning == NoHost::kAllAddresses;
  in_addr any{htonl(all ? INADDR_ANY : INADDR_LOOPBACK)};
  return {v4(any, port), v6(all ? in6addr_any : in6addr_loopback, port)};
}

// "fe80::1%eth0", also in brackets.
std::optional<SystemAddress> parse_v6(std::string host, in_port_t port) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  uint32_t scope = 0;
  size_t percent = host.find('%');
  if (percent != std::string::npos) {
    std::string zone = host.substr(percent + 1);
    scope = ::if_nametoindex(zone.c_str());
    if (scope == 0) return std::nullopt;
    host.resize(percent);
  }
  in6_addr address;
  if (::inet_pton(AF_INET6, host.c_str(), &address) != 1) return std::nullopt;
  return v6(address, port, scope);
}

std::optional<SystemAddress> parse_number(const std::string& host, in_port_t port) {
  in_addr address;
  if (::inet_pton(AF_INET, host.c_str(), &address) == 1) return v4(address, port);
  return parse_v6(host, port);
}

// ---- Names ----

// One question to c-ares. It calls back from the calls below only.
class Question {
 public:
  ~Question() {
    if (channel_ != nullptr) ::ares_destroy(channel_);
    if (found_ != nullptr) ::ares_freeaddrinfo(found_);
  }

  // ARES_SUCCESS, or what stands in the way.
  int start(const std::string& name_servers);
  int ask(const std::string& host, std::chrono::milliseconds patience);
  Addresses answer(in_port_t port) const;

 private:
  static void answered(void* self, int status, int timeouts, ares_addrinfo* found);
  void wait_until(Clock::time_point end);

  ares_channel channel_ = nullptr;
  ares_addrinfo* found_ = nullptr;
  std::optional<int> status_;
};

int Question::start(const std::string& name_servers) {
  int status = ::ares_init(&channel_);
  if (status != ARES_SUCCESS || name_servers.empty()) return status;
  return ::ares_set_servers_ports_csv(channel_, name_servers.c_str());
}

void Question::answered(void* self, int status, int /*timeouts*/, ares_addrinfo* found) {
  auto* question = static_cast<Question*>(self);
  question->status_ = status;
  question->found_ = found;
}

int Question::ask(const std::string& host, std::chrono::milliseconds patience) {
  ares_addrinfo_hints hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  ::ares_getaddrinfo(channel_, host.c_str(), nullptr, &hints, &Question::answered, this);
  Clock::time_point end = Clock::now() + patience;
  while (!status_ && Clock::now() < end)
    wait_until(end);
  if (!status_) {
    ::ares_cancel(channel_);
    return ARES_ETIMEOUT;
  }
  return *status_;
}

// For the first of: something to read or room to write, c-ares' own timers, `end`.
void Question::wait_until(Clock::time_point end) {
  ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
  unsigned wanted = static_cast<unsigned>(::ares_getsock(channel_, sockets, ARES_GETSOCK_MAXNUM));
  pollfd polled[ARES_GETSOCK_MAXNUM];
  nfds_t count = 0;
  for (unsigned i = 0; i < ARES_GETSOCK_MAXNUM; ++i) {
    short events = 0;
    if (ARES_GETSOCK_READABLE(wanted, i)) events |= POLLIN;
    if (ARES_GETSOCK_WRITABLE(wanted, i)) events |= POLLOUT;
    if (events != 0) polled[count++] = {sockets[i], events, 0};
  }
  auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
  timeval most{.tv_sec = left.count() / 1000, .tv_usec = left.count() % 1000 * 1000};
  timeval room;
  timeval* pause = ::ares_timeout(channel_, &most, &room);
  auto pause_ms = pause->tv_sec * 1000 + (pause->tv_usec + 999) / 1000;
  ::poll(polled, count, static_cast<int>(std::max<long>(pause_ms, 0)));
  // Sockets that wait for nothing: the timers are looked at.
  if (count == 0) ::ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  for (const pollfd& one : std::span(polled, count)) {
    constexpr short kBroken = POLLERR | POLLHUP | POLLNVAL;
    bool read = (one.revents & (POLLIN | kBroken)) != 0;
    bool write = (one.revents & POLLOUT) != 0;
    ::ares_process_fd(channel_, read ? one.fd : ARES_SOCKET_BAD, write ? one.fd : ARES_SOCKET_BAD);
  }
}

Addresses Question::answer(in_port_t port) const {
  Addresses out;
  for (const ares_addrinfo_node* node = found_->nodes; node != nullptr; node = node->ai_next) {
    if (node->ai_family == AF_INET) {
      out.push_back(v4(reinterpret_cast<const sockaddr_in*>(node->ai_addr)->sin_addr, port));
    } else if (node->ai_family == AF_INET6) {
      out.push_back(v6(reinterpret_cast<const sockaddr_in6*>(node->ai_addr)->sin6_addr, port));
    }
  }
  return out;
}

}  // namespace

SystemAddress::SystemAddress(const void* address, socklen_t size) : size_(size) {
  assert(size <= sizeof storage_);
  std::memcpy(&storage_, address, size);
}

std::string SystemAddress::text() const {
  char number[INET6_ADDRSTRLEN];
  if (family() == AF_INET) {
    auto* address = reinterpret_cast<const sockaddr_in*>(&storage_);
    ::inet_ntop(AF_INET, &address->sin_addr, number, sizeof number);
    return fmt::format("{}:{}", number, ntohs(address->sin_port));
  }
  auto* address = reinterpret_cast<const sockaddr_in6*>(&storage_);
  ::inet_ntop(AF_INET6, &address->sin6_addr, number, sizeof number);
  return fmt::format("[{}]:{}", number, ntohs(address->sin6_port));
}

Result<Addresses> find_host(const std::string& host, const std::string& port,
                            const NameSearch& search) {
  auto failed = [&](ErrorKind kind, std::string_view reason) {
    return make_error(kind, "address resolution failed for {}:{}: {}", host, port, reason);
  };
  std::optional<in_port_t> number = parse_port(port);
  if (!number) return failed(ErrorKind::kInvalid, "the port is not a number from 1 to 65535");
  if (host.empty()) return without_name(search.no_host, *number);
  if (std::optional<SystemAddress> address = parse_number(host, *number))
    return Addresses{*address};
  if (host.find_first_of("[]:%") != std::string::npos) {
    return failed(ErrorKind::kNotFound, "the host is neither a name nor an address");
  }

  Question question;
  int status = question.start(search.name_servers);
  if (status == ARES_SUCCESS) status = question.ask(host, search.patience);
  if (status != ARES_SUCCESS) return failed(ErrorKind::kNotFound, ::ares_strerror(status));
  Addresses addresses = question.answer(*number);
  if (addresses.empty()) return failed(ErrorKind::kNotFound, "the name has no address");
  return addresses;
}

}  // namespace calf
