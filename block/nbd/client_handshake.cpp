#include "block/nbd/client_handshake.h"

#include <optional>

#include "block/base/byte_range.h"
#include "block/nbd/cursor.h"

namespace calf::nbd {
namespace {

// Replies to one option.
constexpr unsigned kMaxReplies = 256;
// Nodes may not want more than this of their callers.
constexpr uint32_t kMaxMinBlock = 4096;

struct Reply {
  ReplyType type = ReplyType::kAck;
  std::vector<uint8_t> data;
  bool is_error() const {
    return (static_cast<uint32_t>(type) & static_cast<uint32_t>(ReplyType::kErrorBit)) != 0;
  }
  std::string text() const { return std::string(data.begin(), data.end()).substr(0, 512); }
};

Error bad_server(std::string_view what) {
  return make_error(ErrorKind::kInvalid, "NBD server: {}", what);
}

class Handshake {
 public:
  Handshake(StreamSocket& socket, std::string name, std::string context)
      : socket_(socket), name_(std::move(name)), context_(std::move(context)) {}
  Async<ExportInfo> run();

 private:
  Async<> greet();
  Async<> send_option(Option option, std::span<const uint8_t> data);
  Async<Reply> receive_reply(Option option);
  Async<> ask_structured();
  Async<> ask_context();
  Async<bool> go();
  Async<> export_name();
  Result<void> take_info(const Reply& reply);
  Result<void> check() const;

  StreamSocket& socket_;
  std::string name_;
  std::string context_;
  ExportInfo info_;
  bool no_zeroes_ = false;
  bool has_export_ = false;
};

Async<> Handshake::greet() {
  Greeting greeting;
  CO_TRY_VOID(co_await socket_.receive(room_of(greeting)));
  if (greeting.magic != kGreetingMagic) co_return bad_server("Bad initial magic received");
  if (greeting.option_magic == kOldstyleMagic) {
    co_return Error(ErrorKind::kUnsupported, "NBD server: the old handshake is not supported");
  }
  if (greeting.option_magic != kOptionMagic) co_return bad_server("Bad server magic received");
  if ((greeting.flags & kFixedNewstyle) == 0) {
    co_return Error(ErrorKind::kUnsupported,
                    "NBD server: a handshake before the fixed newstyle is not supported");
  }
  no_zeroes_ = (greeting.flags & kNoZeroes) != 0;
  be32 answer = kFixedNewstyle | (no_zeroes_ ? uint32_t{kNoZeroes} : 0U);
  co_return co_await socket_.send(bytes_of(answer));
}

Async<> Handshake::send_option(Option option, std::span<const uint8_t> data) {
  OptionHeader header;
  header.magic = kOptionMagic;
  header.option = static_cast<uint32_t>(option);
  header.length = static_cast<uint32_t>(data.size());
  std::vector<uint8_t> bytes = joined(header, data);
  co_return co_await socket_.send(bytes);
}

Async<Reply> Handshake::receive_reply(Option option) {
  OptionReply header;
  CO_TRY_VOID(co_await socket_.receive(room_of(header)));
  if (header.magic != kOptionReplyMagic || header.option != static_cast<uint32_t>(option)) {
    co_return bad_server("Unexpected option reply");
  }
  if (header.length > kMaxOptionData) co_return bad_server("an option reply is too long");
  Reply reply;
  reply.type = static_cast<ReplyType>(header.type.value());
  reply.data.resize(header.length);
  CO_TRY_VOID(co_await socket_.receive(reply.data));
  if (reply.type == ReplyType::kTlsRequired) {
    co_return Error(ErrorKind::kUnsupported, "NBD server: it wants TLS, which is not supported");
  }
  co_return reply;
}

Async<> Handshake::ask_structured() {
  std::span<const uint8_t> nothing;
  CO_TRY_VOID(co_await send_option(Option::kStructuredReply, nothing));
  CO_TRY(Reply reply, co_await receive_reply(Option::kStructuredReply));
  info_.structured = reply.type == ReplyType::kAck;
  co_return Result<void>();
}

Async<> Handshake::ask_context() {
  be32 one = 1U;
  std::vector<uint8_t> data = joined(counted(name_), one, counted(context_));
  CO_TRY_VOID(co_await send_option(Option::kSetMetaContext, data));
  for (unsigned i = 0; i < kMaxReplies; ++i) {
    CO_TRY(Reply reply, co_await receive_reply(Option::kSetMetaContext));
    if (reply.type != ReplyType::kMetaContext) co_return Result<void>();
    Cursor cursor(reply.data);
    uint32_t id = cursor.take<be32>();
    if (!cursor.good() || cursor.take_text(cursor.left()) != context_) {
      co_return bad_server("a meta context that was not asked for");
    }
    info_.context = id;
  }
  co_return bad_server("too many replies");
}

Result<void> Handshake::take_info(const Reply& reply) {
  Cursor cursor(reply.data);
  auto type = static_cast<Info>(Cursor(reply.data).take<be16>().value());
  if (type == Info::kExport) {
    InfoExport info = cursor.take<InfoExport>();
    if (!cursor.finished()) return bad_server("malformed information on the export");
    info_.size = info.size;
    info_.flags = info.flags;
    has_export_ = true;
  } else if (type == Info::kBlockSize) {
    InfoBlockSize info = cursor.take<InfoBlockSize>();
    bool good = cursor.finished() && is_power_of_two(info.minimum) &&
                info.minimum <= kMaxMinBlock && info.maximum >= info.minimum;
    if (!good) return bad_server("block sizes that make no sense");
    info_.min_block = info.minimum;
    info_.max_block = static_cast<uint32_t>(
        align_down(std::min<uint64_t>(info.maximum, kMaxPayload), info_.min_block));
  }
  return {};
}

// False if the server does not know GO.
Async<bool> Handshake::go() {
  be16 one = uint16_t{1};
  be16 wish = static_cast<uint16_t>(Info::kBlockSize);
  std::vector<uint8_t> data = joined(counted(name_), one, wish);
  CO_TRY_VOID(co_await send_option(Option::kGo, data));
  for (unsigned i = 0; i < kMaxReplies; ++i) {
    CO_TRY(Reply reply, co_await receive_reply(Option::kGo));
    switch (reply.type) {
      case ReplyType::kAck:
        if (!has_export_) co_return bad_server("it does not say how large the export is");
        co_return true;
      case ReplyType::kInfo:
        CO_TRY_VOID(take_info(reply));
        break;
      case ReplyType::kUnsupported:
        co_return false;
      case ReplyType::kUnknown:
        co_return make_error(ErrorKind::kNotFound,
                             "Requested export not available\nserver reported: {}", reply.text());
      default:
        co_return make_error(ErrorKind::kInvalid, "NBD server: it refuses the export '{}': {}",
                             name_, reply.text());
    }
  }
  co_return bad_server("too many replies");
}

Async<> Handshake::export_name() {
  CO_TRY_VOID(co_await send_option(Option::kExportName, bytes_of(name_)));
  be64 size;
  CO_TRY_VOID(co_await socket_.receive(room_of(size)));
  be16 flags;
  CO_TRY_VOID(co_await socket_.receive(room_of(flags)));
  info_.size = size;
  info_.flags = flags;
  if (!no_zeroes_) {
    uint8_t zeroes[124];
    CO_TRY_VOID(co_await socket_.receive(zeroes));
  }
  co_return Result<void>();
}

Result<void> Handshake::check() const {
  if (info_.size > INT64_MAX) return bad_server("the export is too large");
  if (!info_.has(kHasFlags)) return bad_server("the export has no flags");
  if (!is_aligned(info_.size, info_.min_block)) {
    return bad_server("the size of the export is not a multiple of its block size");
  }
  return {};
}

Async<ExportInfo> Handshake::run() {
  CO_TRY_VOID(co_await greet());
  CO_TRY_VOID(co_await ask_structured());
  if (info_.structured && !context_.empty()) CO_TRY_VOID(co_await ask_context());
  CO_TRY(bool knows_go, co_await go());
  if (!knows_go) CO_TRY_VOID(co_await export_name());
  CO_TRY_VOID(check());
  co_return info_;
}

}  // namespace

Async<ExportInfo> choose_export(StreamSocket& socket, std::string name, std::string context) {
  if (name.size() > kMaxName || context.size() > kMaxName) {
    co_return Error(ErrorKind::kInvalid, "The export's name is too long");
  }
  Handshake handshake(socket, std::move(name), std::move(context));
  co_return co_await handshake.run();
}

}  // namespace calf::nbd
