// Clients that break the protocol: the connection ends, the server and its other clients go on.

#include "block/nbd/cursor.h"
#include "tests/nbd/nbd_fixture.h"

namespace calf::nbd {
namespace {

using test::Bytes;

struct Abuse {
  const char* name;
  // What is sent after the greeting; the client's flags included.
  Bytes (*bytes)();
};

Bytes flags(uint32_t value = kFixedNewstyle | kNoZeroes) {
  Bytes out;
  be32 wire = value;
  append(&out, bytes_of(wire));
  return out;
}

void add_option(Bytes* out, uint32_t option, uint32_t length, const std::string& data) {
  OptionHeader header;
  header.magic = kOptionMagic;
  header.option = option;
  header.length = length;
  append(out, bytes_of(header));
  append(out, bytes_of(data));
}

std::string go_data() {
  return std::string("\0\0\0\4disk\0\0", 10);
}

// In transmission, with structured replies.
Bytes ready() {
  Bytes out = flags();
  add_option(&out, 8, 0, "");
  std::string data = go_data();
  add_option(&out, 7, static_cast<uint32_t>(data.size()), data);
  return out;
}

Bytes with_request(uint16_t command, uint64_t offset, uint32_t length,
                   uint32_t magic = kRequestMagic) {
  Bytes out = ready();
  Request request;
  request.magic = magic;
  request.command = command;
  request.offset = offset;
  request.length = length;
  append(&out, bytes_of(request));
  return out;
}

const Abuse kAbuses[] = {
    {"SaysNothing", [] { return Bytes(); }},
    {"UnknownHandshakeFlags", [] { return flags(0xffffffff); }},
    {"OptionWithoutMagic",
     [] {
       Bytes out = flags();
       out.resize(out.size() + 16);
       return out;
     }},
    {"OptionOfFourGigabytes",
     [] {
       Bytes out = flags();
       add_option(&out, 7, 0xffffffff, "");
       return out;
     }},
    {"OptionCutOff",
     [] {
       Bytes out = flags();
       add_option(&out, 7, 100, "x");
       return out;
     }},
    {"GoWithANameBehindItsEnd",
     [] {
       Bytes out = flags();
       add_option(&out, 7, 10,
                  std::string("\xff\xff\xff\xff"
                              "disk\0\0",
                              10));
       return out;
     }},
    {"MetaContextWithMoreQueriesThanBytes",
     [] {
       Bytes out = flags();
       add_option(&out, 8, 0, "");
       add_option(&out, 10, 12, std::string("\0\0\0\4disk\0\0\0\x20", 12));
       return out;
     }},
    {"OldNameOfNothing",
     [] {
       Bytes out = flags();
       add_option(&out, 1, 1, "x");
       return out;
     }},
    {"OptionsWithoutEnd",
     [] {
       Bytes out = flags();
       for (unsigned i = 0; i < 1000; ++i)
         add_option(&out, 99, 0, "");
       return out;
     }},
    {"RequestWithoutMagic", [] { return with_request(0, 0, 512, 0x12345678); }},
    {"ReadOfFourGigabytes", [] { return with_request(0, 0, 0xffffffff); }},
    {"ReadBehindTheEnd", [] { return with_request(0, UINT64_MAX, 512); }},
    {"WriteOfFourGigabytes", [] { return with_request(1, 0, 0xffffffff); }},
    {"WriteCutOff", [] { return with_request(1, 0, 4096); }},
    {"UnknownCommand", [] { return with_request(77, 0, 512); }},
    {"StatusWithoutAContext", [] { return with_request(7, 0, 512); }},
    {"ZeroesBehindTheEnd", [] { return with_request(6, UINT64_MAX - 100, 512); }},
};

class HostileClientTest : public NbdTest, public testing::WithParamInterface<Abuse> {};

// Sends and leaves; what the server says is not read.
Async<> abuse(Executor& executor, SocketAddress address, Bytes bytes) {
  CO_TRY(StreamSocket socket, co_await StreamSocket::connect(executor, std::move(address)));
  // The server may hang up before all is sent.
  Result<void> sent = co_await socket.send(bytes);
  (void)sent;
  socket.shut_down();
  co_return Result<void>();
}

TEST_P(HostileClientTest, HurtsNobodyElse) {
  start(true);
  auto good = connect(true);
  ASSERT_OK(good);
  Bytes before = test::pattern(1, 4096);
  ASSERT_OK(write(**good, 0, before));
  EXPECT_OK(run(abuse(executor(), address(), GetParam().bytes())));
  EXPECT_EQ(*read(**good, 0, before.size()), before);
  EXPECT_OK(close(**good));
  finish();
}

INSTANTIATE_TEST_SUITE_P(Abuses, HostileClientTest, testing::ValuesIn(kAbuses),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace calf::nbd
