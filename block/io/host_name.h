// Host names and ports -> socket addresses: numbers, /etc/hosts, DNS.
//
// The C library's resolver loads its parts at run time, which a self-contained program cannot do;
// c-ares needs nobody. It is started for a name only: numbers cost nothing.
//
// Not supported: names of services for ports ("nbd"), the C library's other sources of names (NSS
// modules such as mDNS).
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "block/base/result.h"

namespace calf {

// An address as system calls take it.
class SystemAddress {
 public:
  // `address`: a sockaddr of any family.
  SystemAddress(const void* address, socklen_t size);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }
  int family() const { return storage_.ss_family; }
  // "192.0.2.1:10809", "[2001:db8::1]:10809". Of IPv4 and IPv6.
  std::string text() const;

 private:
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

// What the host without a name is.
enum class NoHost : uint8_t {
  kThisHost,     // its loopback addresses: for those who connect
  kAllAddresses  // the wildcard addresses: for those who listen
};

struct NameSearch {
  NoHost no_host = NoHost::kThisHost;
  // "HOST:PORT,…" instead of /etc/resolv.conf's.
  std::string name_servers;
  // For all servers together.
  std::chrono::milliseconds patience = std::chrono::seconds(30);
};

// All addresses of `host` (IPv6 in brackets or without), best first; never none. Waits: not for an
// executor's thread.
// Errors: kInvalid for a port that is not a number from 1 to 65535, kNotFound for a host; the text
// is "address resolution failed for HOST:PORT: REASON".
Result<std::vector<SystemAddress>> find_host(const std::string& host, const std::string& port,
                                             const NameSearch& search);

}  // namespace calf
