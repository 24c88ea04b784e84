// Servers that lie: the client's request ends in an error, in time and within its own memory.
//
// Cookies count from 1 and the client says what can be foreseen, so a lying server can send all it
// has to say at once.

#include "block/nbd/cursor.h"
#include "tests/nbd/nbd_fixture.h"

namespace calf::nbd {
namespace {

using test::Bytes;

constexpr uint64_t kExportSize = 1 << 16;

void add_reply(Bytes* out, Option option, ReplyType type, std::span<const uint8_t> data) {
  OptionReply reply;
  reply.magic = kOptionReplyMagic;
  reply.option = static_cast<uint32_t>(option);
  reply.type = static_cast<uint32_t>(type);
  reply.length = static_cast<uint32_t>(data.size());
  append(out, bytes_of(reply));
  append(out, data);
}

Bytes greeting() {
  Greeting greeting;
  greeting.magic = kGreetingMagic;
  greeting.option_magic = kOptionMagic;
  greeting.flags = kFixedNewstyle | kNoZeroes;
  Bytes out;
  append(&out, bytes_of(greeting));
  return out;
}

struct Terms {
  uint64_t size = kExportSize;
  uint16_t flags = kHasFlags;
  uint32_t minimum = 1;
  uint32_t maximum = 1 << 20;
};

// The whole handshake.
Bytes handshake(Terms terms = {}) {
  Bytes out = greeting();
  add_reply(&out, Option::kStructuredReply, ReplyType::kAck, {});
  Bytes context{0, 0, 0, 1};
  append(&context, bytes_of(std::string(kAllocationContext)));
  add_reply(&out, Option::kSetMetaContext, ReplyType::kMetaContext, context);
  add_reply(&out, Option::kSetMetaContext, ReplyType::kAck, {});
  InfoExport info;
  info.type = static_cast<uint16_t>(Info::kExport);
  info.size = terms.size;
  info.flags = terms.flags;
  add_reply(&out, Option::kGo, ReplyType::kInfo, bytes_of(info));
  InfoBlockSize blocks;
  blocks.type = static_cast<uint16_t>(Info::kBlockSize);
  blocks.minimum = terms.minimum;
  blocks.preferred = 4096U;
  blocks.maximum = terms.maximum;
  add_reply(&out, Option::kGo, ReplyType::kInfo, bytes_of(blocks));
  add_reply(&out, Option::kGo, ReplyType::kAck, {});
  return out;
}

Bytes chunk(ChunkType type, uint16_t flags, uint64_t cookie, uint32_t length,
            const std::string& body) {
  Bytes out = handshake();
  Chunk head;
  head.magic = kChunkMagic;
  head.flags = flags;
  head.type = static_cast<uint16_t>(type);
  head.cookie = cookie;
  head.length = length;
  append(&out, bytes_of(head));
  append(&out, bytes_of(body));
  return out;
}

std::string offset_text(uint64_t offset) {
  be64 wire = offset;
  return {reinterpret_cast<const char*>(&wire), sizeof wire};
}

struct Lie {
  const char* name;
  Bytes (*bytes)();
};

const Lie kLies[] = {
    {"NoMagic", [] { return Bytes(64, 'x'); }},
    {"Silence", [] { return Bytes(); }},
    {"OldHandshake",
     [] {
       Bytes out = greeting();
       be64 old = kOldstyleMagic;
       std::copy_n(bytes_of(old).begin(), 8, out.begin() + 8);
       return out;
     }},
    {"ReplyToAnotherOption",
     [] {
       Bytes out = greeting();
       add_reply(&out, Option::kList, ReplyType::kAck, {});
       return out;
     }},
    {"OptionReplyOfFourGigabytes",
     [] {
       Bytes out = greeting();
       add_reply(&out, Option::kStructuredReply, ReplyType::kAck, {});
       out[out.size() - 4] = 0xff;
       return out;
     }},
    {"AckBeforeTheSize",
     [] {
       Bytes out = greeting();
       add_reply(&out, Option::kStructuredReply, ReplyType::kUnsupported, {});
       add_reply(&out, Option::kGo, ReplyType::kAck, {});
       return out;
     }},
    {"SizeAboveAll", [] { return handshake({.size = UINT64_MAX}); }},
    {"NoFlags", [] { return handshake({.flags = 0}); }},
    {"BlocksOfThree", [] { return handshake({.minimum = 3}); }},
    {"NoBlocks", [] { return handshake({.minimum = 0}); }},
    {"MaximumBelowMinimum", [] { return handshake({.minimum = 512, .maximum = 0}); }},
    {"SizeIsNoMultiple", [] { return handshake({.size = 1000, .minimum = 512}); }},
    {"ReplyWithoutMagic",
     [] {
       Bytes out = handshake();
       out.resize(out.size() + 32, 'x');
       return out;
     }},
    {"CookieOfNobody", [] { return chunk(ChunkType::kNone, kDone, 99, 0, ""); }},
    {"DoneWithoutTheData", [] { return chunk(ChunkType::kNone, kDone, 1, 0, ""); }},
    {"DataBeforeWhatWasAskedFor",
     [] { return chunk(ChunkType::kOffsetData, kDone, 1, 9, offset_text(0) + "x"); }},
    {"DataBehindWhatWasAskedFor",
     [] { return chunk(ChunkType::kOffsetData, kDone, 1, 8 + 4096, offset_text(12000)); }},
    {"DataOfFourGigabytes",
     [] { return chunk(ChunkType::kOffsetData, kDone, 1, 0xffffffff, offset_text(4096)); }},
    {"DataTooShortForItsOffset", [] { return chunk(ChunkType::kOffsetData, kDone, 1, 3, "abc"); }},
    {"HoleLargerThanTheRequest",
     [] {
       return chunk(ChunkType::kOffsetHole, kDone, 1, 12,
                    offset_text(4096) + std::string("\xff\xff\xff\xff", 4));
     }},
    {"ErrorThatIsNone", [] { return chunk(ChunkType::kError, kDone, 1, 6, std::string(6, '\0')); }},
    {"ErrorTextLongerThanItsChunk",
     [] { return chunk(ChunkType::kError, kDone, 1, 6, std::string("\0\0\0\5\xff\xff", 6)); }},
    {"ErrorAsTheSpecHasIt",
     [] { return chunk(ChunkType::kError, kDone, 1, 6, std::string("\0\0\0\5\0\0", 6)); }},
    {"StatusInsteadOfData",
     [] { return chunk(ChunkType::kBlockStatus, kDone, 1, 12, std::string(12, '\1')); }},
    {"ChunkOfAnUnknownType", [] { return chunk(static_cast<ChunkType>(77), kDone, 1, 1, "x"); }},
    {"EndInTheMiddleOfTheData",
     [] { return chunk(ChunkType::kOffsetData, kDone, 1, 8 + 4096, offset_text(4096) + "x"); }},
};

class HostileServerTest : public NbdTest, public testing::WithParamInterface<Lie> {
 protected:
  // Takes one client, says its piece and hangs up.
  static Task<void> lie(HostileServerTest* self, Fd listening, Bytes bytes) {
    Result<StreamSocket> socket = co_await accept_on(self->executor(), listening.get());
    EXPECT_OK(socket);
    if (socket.ok()) {
      Result<void> sent = co_await socket->send(bytes);
      (void)sent;
      // Whatever the client says is taken, so that it is not disturbed before it has read.
      uint8_t byte[1];
      bool more = true;
      while (more) {
        if (self->deaf_) break;
        Result<bool> got = co_await socket->receive_or_end(byte);
        more = got.ok() && *got;
      }
    }
    self->lied_ = true;
  }
  static Task<void> wait(HostileServerTest* self) {
    while (!self->lied_)
      co_await self->executor().yield();
  }
  bool lied_ = false;
  bool deaf_ = false;
};

TEST_P(HostileServerTest, EndsInAnError) {
  Result<Fd> listening = listen_on(address());
  ASSERT_OK(listening);
  Bytes bytes = GetParam().bytes();
  // Those who stop in the middle of something hang up then.
  std::string name = GetParam().name;
  deaf_ = name == "Silence" || name == "EndInTheMiddleOfTheData" ||
          name == "OptionReplyOfFourGigabytes";
  executor().spawn(lie(this, std::move(*listening), std::move(bytes)));
  {
    auto client = connect(false);
    if (client.ok()) {
      EXPECT_FALSE(read(**client, 4096, 8192).ok());
      if (name != "ErrorAsTheSpecHasIt") {
        EXPECT_FALSE(read(**client, 0, 512).ok()) << "the connection is broken for good";
      }
      EXPECT_OK(close(**client));
    }
  }
  run(wait(this));
}

INSTANTIATE_TEST_SUITE_P(Lies, HostileServerTest, testing::ValuesIn(kLies),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace calf::nbd
