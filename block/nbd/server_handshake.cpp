#include "block/nbd/server_handshake.h"

#include <algorithm>

#include "block/nbd/cursor.h"
#include "block/nbd/protocol.h"

namespace calf::nbd {
namespace {

// A client that goes on negotiating for longer wants something else.
constexpr unsigned kMaxOptions = 256;
constexpr uint32_t kContextId = 1;
constexpr uint32_t kMaxQueries = 64;
constexpr uint32_t kPreferredBlock = 4096;

class Negotiation {
 public:
  Negotiation(StreamSocket& socket, const Export& exported)
      : socket_(socket), exported_(exported) {}
  Async<std::optional<Session>> run();

 private:
  enum class Next : uint8_t { kContinue, kTransmit, kLeave };

  Async<Next> handle(Option option, std::vector<uint8_t> data);
  Async<Next> export_name(std::vector<uint8_t> data);
  Async<Next> list(std::vector<uint8_t> data);
  Async<Next> go(Option option, std::vector<uint8_t> data);
  Async<Next> meta_context(Option option, std::vector<uint8_t> data);
  Async<> reply(Option option, ReplyType type, std::vector<uint8_t> data);
  Async<Next> refuse(Option option, ReplyType type, std::string text);
  Async<Next> acknowledge(Option option, Next next);

  StreamSocket& socket_;
  const Export& exported_;
  Session session_;
  bool no_zeroes_ = false;
};

Error protocol_error(std::string_view what) {
  return make_error(ErrorKind::kInvalid, "NBD client: {}", what);
}

Async<> Negotiation::reply(Option option, ReplyType type, std::vector<uint8_t> data) {
  OptionReply header;
  header.magic = kOptionReplyMagic;
  header.option = static_cast<uint32_t>(option);
  header.type = static_cast<uint32_t>(type);
  header.length = static_cast<uint32_t>(data.size());
  std::vector<uint8_t> bytes = joined(header, data);
  co_return co_await socket_.send(bytes);
}

Async<Negotiation::Next> Negotiation::refuse(Option option, ReplyType type, std::string text) {
  std::vector<uint8_t> data(text.begin(), text.end());
  CO_TRY_VOID(co_await reply(option, type, std::move(data)));
  co_return Next::kContinue;
}

Async<Negotiation::Next> Negotiation::acknowledge(Option option, Next next) {
  std::vector<uint8_t> nothing;
  CO_TRY_VOID(co_await reply(option, ReplyType::kAck, std::move(nothing)));
  co_return next;
}

// The old way to choose: there is no way to refuse but to hang up.
Async<Negotiation::Next> Negotiation::export_name(std::vector<uint8_t> data) {
  if (std::string(data.begin(), data.end()) != exported_.name) {
    co_return protocol_error("asked for an export that is not there");
  }
  be64 size = exported_.node->size();
  be16 flags = exported_.flags();
  std::vector<uint8_t> bytes = joined(size, flags);
  if (!no_zeroes_) bytes.resize(bytes.size() + 124);
  CO_TRY_VOID(co_await socket_.send(bytes));
  co_return Next::kTransmit;
}

Async<Negotiation::Next> Negotiation::list(std::vector<uint8_t> data) {
  if (!data.empty()) {
    co_return co_await refuse(Option::kList, ReplyType::kInvalid, "LIST has no data");
  }
  std::vector<uint8_t> answer = counted(exported_.name);
  CO_TRY_VOID(co_await reply(Option::kList, ReplyType::kServer, std::move(answer)));
  co_return co_await acknowledge(Option::kList, Next::kContinue);
}

Async<Negotiation::Next> Negotiation::go(Option option, std::vector<uint8_t> data) {
  Cursor cursor(data);
  uint32_t name_length = cursor.take<be32>();
  std::string name = cursor.take_text(name_length);
  uint16_t wishes = cursor.take<be16>();
  if (!cursor.good() || cursor.left() != size_t{wishes} * 2) {
    co_return co_await refuse(option, ReplyType::kInvalid, "the request is malformed");
  }
  if (name != exported_.name) {
    std::string text = "export '" + name.substr(0, 256) + "' not present";
    co_return co_await refuse(option, ReplyType::kUnknown, std::move(text));
  }
  InfoExport info;
  info.type = static_cast<uint16_t>(Info::kExport);
  info.size = exported_.node->size();
  info.flags = exported_.flags();
  std::vector<uint8_t> answer = joined(info);
  CO_TRY_VOID(co_await reply(option, ReplyType::kInfo, std::move(answer)));

  InfoBlockSize blocks;
  blocks.type = static_cast<uint16_t>(Info::kBlockSize);
  blocks.minimum = 1;
  blocks.preferred = std::max(kPreferredBlock, exported_.node->limits().write_unit);
  blocks.maximum = kMaxPayload;
  std::vector<uint8_t> sizes = joined(blocks);
  CO_TRY_VOID(co_await reply(option, ReplyType::kInfo, std::move(sizes)));
  co_return co_await acknowledge(option, option == Option::kGo ? Next::kTransmit : Next::kContinue);
}

Async<Negotiation::Next> Negotiation::meta_context(Option option, std::vector<uint8_t> data) {
  bool set = option == Option::kSetMetaContext;
  if (set) session_.allocation_context = false;
  Cursor cursor(data);
  uint32_t name_length = cursor.take<be32>();
  std::string name = cursor.take_text(name_length);
  uint32_t queries = cursor.take<be32>();
  // Without a query LIST means all there is, SET none.
  bool wanted = !set && queries == 0;
  if (queries > kMaxQueries) {
    co_return co_await refuse(option, ReplyType::kTooBig, "too many queries");
  }
  for (uint32_t i = 0; i < queries; ++i) {
    uint32_t length = cursor.take<be32>();
    std::string query = cursor.take_text(length);
    wanted |= query == kAllocationContext || (!set && query == "base:");
  }
  if (!cursor.finished() || (set && !session_.structured)) {
    co_return co_await refuse(option, ReplyType::kInvalid,
                              "the request is malformed, or structured replies are missing");
  }
  if (name != exported_.name) {
    co_return co_await refuse(option, ReplyType::kUnknown, "export not present");
  }
  if (wanted) {
    be32 id = set ? kContextId : 0;
    std::vector<uint8_t> answer = joined(id, std::string(kAllocationContext));
    CO_TRY_VOID(co_await reply(option, ReplyType::kMetaContext, std::move(answer)));
    if (set) session_.allocation_context = true;
  }
  co_return co_await acknowledge(option, Next::kContinue);
}

Async<Negotiation::Next> Negotiation::handle(Option option, std::vector<uint8_t> data) {
  switch (option) {
    case Option::kExportName:
      co_return co_await export_name(std::move(data));
    case Option::kAbort:
      co_return co_await acknowledge(option, Next::kLeave);
    case Option::kList:
      co_return co_await list(std::move(data));
    case Option::kInfo:
    case Option::kGo:
      co_return co_await go(option, std::move(data));
    case Option::kStructuredReply:
      if (!data.empty()) {
        co_return co_await refuse(option, ReplyType::kInvalid, "the option has no data");
      }
      session_.structured = true;
      co_return co_await acknowledge(option, Next::kContinue);
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      co_return co_await meta_context(option, std::move(data));
    case Option::kStartTls:
      break;
  }
  co_return co_await refuse(option, ReplyType::kUnsupported, "the option is not supported");
}

Async<std::optional<Session>> Negotiation::run() {
  Greeting greeting;
  greeting.magic = kGreetingMagic;
  greeting.option_magic = kOptionMagic;
  greeting.flags = kFixedNewstyle | kNoZeroes;
  CO_TRY_VOID(co_await socket_.send(bytes_of(greeting)));
  be32 answer;
  CO_TRY_VOID(co_await socket_.receive(room_of(answer)));
  uint32_t flags = answer;
  if ((flags & ~uint32_t{kFixedNewstyle | kNoZeroes}) != 0) {
    co_return protocol_error("unknown handshake flags");
  }
  no_zeroes_ = (flags & kNoZeroes) != 0;
  for (unsigned count = 0; count < kMaxOptions; ++count) {
    OptionHeader header;
    CO_TRY(bool more, co_await socket_.receive_or_end(room_of(header)));
    if (!more) co_return std::optional<Session>();
    if (header.magic != kOptionMagic) co_return protocol_error("an option has no magic number");
    if (header.length > kMaxOptionData) co_return protocol_error("an option is too long");
    std::vector<uint8_t> data(header.length);
    CO_TRY_VOID(co_await socket_.receive(data));
    auto option = static_cast<Option>(header.option.value());
    CO_TRY(Next next, co_await handle(option, std::move(data)));
    if (next == Next::kTransmit) co_return std::optional<Session>(session_);
    if (next == Next::kLeave) co_return std::optional<Session>();
  }
  co_return protocol_error("too many options");
}

}  // namespace

uint16_t Export::flags() const {
  uint16_t flags = kHasFlags | kSendFlush | kSendFua | kSendDf;
  if (multi_conn) flags |= kCanMultiConn;
  flags |= writable ? kSendTrim | kSendWriteZeroes : kReadOnly;
  return flags;
}

Async<std::optional<Session>> negotiate(StreamSocket& socket, const Export& exported) {
  Negotiation negotiation(socket, exported);
  co_return co_await negotiation.run();
}

}  // namespace calf::nbd
