#include "block/io/host_name.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>

#include "block/base/fd.h"

namespace calf {
namespace {

using namespace std::chrono_literals;

std::vector<std::string> texts(const Result<std::vector<SystemAddress>>& found) {
  std::vector<std::string> out;
  if (!found.ok()) return {found.error().message()};
  for (const SystemAddress& one : *found)
    out.push_back(one.text());
  return out;
}

using Texts = std::vector<std::string>;

TEST(HostNameTest, NumbersAreAddresses) {
  NameSearch search;
  EXPECT_EQ(texts(find_host("192.0.2.7", "10809", search)), Texts{"192.0.2.7:10809"});
  EXPECT_EQ(texts(find_host("2001:db8::1", "1", search)), Texts{"[2001:db8::1]:1"});
  EXPECT_EQ(texts(find_host("[2001:db8::1]", "65535", search)), Texts{"[2001:db8::1]:65535"});
  auto scoped = find_host("fe80::1%lo", "80", search);
  ASSERT_TRUE(scoped.ok()) << scoped.error().message();
  EXPECT_NE(reinterpret_cast<const sockaddr_in6*>(scoped->front().get())->sin6_scope_id, 0U);
}

TEST(HostNameTest, NoHostIsThisOneOrAllAddresses) {
  NameSearch search;
  EXPECT_EQ(texts(find_host("", "80", search)), (Texts{"127.0.0.1:80", "[::1]:80"}));
  search.no_host = NoHost::kAllAddresses;
  EXPECT_EQ(texts(find_host("", "80", search)), (Texts{"0.0.0.0:80", "[::]:80"}));
}

TEST(HostNameTest, PortsAreNumbers) {
  NameSearch search;
  for (const char* port : {"", "0", "65536", "nbd", "80x", "-1", " 80"}) {
    auto found = find_host("192.0.2.7", port, search);
    ASSERT_FALSE(found.ok()) << port;
    EXPECT_EQ(found.error().message(),
              fmt::format("address resolution failed for 192.0.2.7:{}: the port is not a number "
                          "from 1 to 65535",
                          port));
  }
}

TEST(HostNameTest, HostsThatAreNoNames) {
  NameSearch search;
  for (const char* host : {"[::1", "1:2", "fe80::1%no-such-interface", "[192.0.2.7]"}) {
    auto found = find_host(host, "80", search);
    ASSERT_FALSE(found.ok()) << host;
    EXPECT_EQ(found.error().kind(), ErrorKind::kNotFound);
  }
}

TEST(HostNameTest, LocalhostNeedsNoServer) {
  NameSearch search;
  search.name_servers = "127.0.0.1:1";
  auto found = find_host("localhost", "80", search);
  ASSERT_TRUE(found.ok()) << found.error().message();
  for (const std::string& text : texts(found))
    EXPECT_TRUE(text == "127.0.0.1:80" || text == "[::1]:80") << text;
}

// A name server of this host. The answer to A is 192.0.2.9, to AAAA nothing; or what it is told.
class NameServer {
 public:
  enum class Manner { kKnows, kKnowsNothing, kSilent };

  explicit NameServer(Manner manner)
      : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
        stop_(::eventfd(0, EFD_CLOEXEC)),
        manner_(manner) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(socket_.get(), raw, size), 0);
    EXPECT_EQ(::getsockname(socket_.get(), raw, &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~NameServer() {
    ::eventfd_write(stop_.get(), 1);
    thread_.join();
  }

  NameSearch search() const {
    NameSearch search;
    search.name_servers = fmt::format("127.0.0.1:{}", port_);
    return search;
  }

 private:
  void serve() {
    while (true) {
      pollfd polled[] = {{socket_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
      ::poll(polled, 2, -1);
      if (polled[1].revents != 0) return;
      answer();
    }
  }

  // RFC 1035, 4.1: the question with the answer behind it.
  void answer() {
    uint8_t packet[512];
    sockaddr_in from{};
    socklen_t size = sizeof from;
    auto* raw = reinterpret_cast<sockaddr*>(&from);
    ssize_t length = ::recvfrom(socket_.get(), packet, sizeof packet - 16, 0, raw, &size);
    if (manner_ == Manner::kSilent || length < 17) return;
    std::vector<uint8_t> reply(packet, packet + length);
    // The type is before the class, at the end.
    bool asks_v4 = reply[static_cast<size_t>(length) - 3] == 1;
    reply[2] |= 0x80;
    if (manner_ == Manner::kKnowsNothing) {
      reply[3] = 3;
    } else if (asks_v4) {
      reply[7] = 1;
      // The name of the question, A, IN, an hour, 4 bytes.
      const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4, 192, 0, 2, 9};
      reply.insert(reply.end(), std::begin(record), std::end(record));
    }
    ::sendto(socket_.get(), reply.data(), reply.size(), 0, raw, size);
  }

  Fd socket_;
  Fd stop_;
  Manner manner_;
  uint16_t port_ = 0;
  std::thread thread_;
};

TEST(HostNameTest, NamesAreAskedFor) {
  NameServer server(NameServer::Manner::kKnows);
  EXPECT_EQ(texts(find_host("disks.example", "10809", server.search())), Texts{"192.0.2.9:10809"});
}

TEST(HostNameTest, UnknownNamesAreAnError) {
  NameServer server(NameServer::Manner::kKnowsNothing);
  auto found = find_host("nowhere.example", "10809", server.search());
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().kind(), ErrorKind::kNotFound);
  EXPECT_EQ(found.error().message(),
            "address resolution failed for nowhere.example:10809: Domain name not found");
}

TEST(HostNameTest, SilentServersAreNotWaitedForForEver) {
  NameServer server(NameServer::Manner::kSilent);
  NameSearch search = server.search();
  search.patience = 100ms;
  auto found = find_host("nowhere.example", "10809", search);
  ASSERT_FALSE(found.ok());
  EXPECT_TRUE(found.error().message().ends_with("Timeout while contacting DNS servers"))
      << found.error().message();
}

}  // namespace
}  // namespace calf
