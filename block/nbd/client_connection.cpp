#include "block/nbd/client_connection.h"

#include <algorithm>
#include <cerrno>

#include "block/nbd/cursor.h"

namespace calf::nbd {
namespace {

// A chunk other than data.
constexpr uint32_t kMaxChunk = 1 << 20;

Error bad_reply(std::string_view what) {
  return make_error(ErrorKind::kIo, "NBD server: {}", what);
}

}  // namespace

Async<std::unique_ptr<ClientConnection>> ClientConnection::open(Executor& executor,
                                                                StreamSocket socket,
                                                                std::string name,
                                                                std::string context) {
  std::unique_ptr<ClientConnection> connection(new ClientConnection(executor, std::move(socket)));
  CO_TRY(connection->info_,
         co_await choose_export(connection->socket_, std::move(name), std::move(context)));
  co_return connection;
}

// ---- Requests ----

Async<> ClientConnection::send(const Pending& pending, IoSlice payload) {
  std::vector<iovec> pieces = payload.to_iovecs();
  iovec head{const_cast<Request*>(&pending.request), sizeof pending.request};
  pieces.insert(pieces.begin(), head);
  AsyncMutex::Guard guard = co_await send_lock_.lock();
  if (broken_) co_return *broken_;
  co_return co_await socket_.send(std::span<iovec>(pieces));
}

Async<> ClientConnection::exchange(Pending* pending, IoSlice payload) {
  pending->request.magic = kRequestMagic;
  pending->request.cookie = next_cookie_++;
  if (broken_) co_return *broken_;
  pending_.push_back(pending);
  Result<void> sent = co_await send(*pending, payload);
  if (!sent.ok()) break_off(sent.error());
  // Until it is done nobody else may use its memory, whatever happens.
  while (!pending->done) {
    if (reading_) {
      co_await changed_.wait();
      continue;
    }
    reading_ = true;
    Result<void> received = co_await receive_one();
    reading_ = false;
    if (!received.ok()) break_off(received.error());
    changed_.wake_all();
  }
  pending_.remove(pending);
  if (pending->error) co_return std::move(*pending->error);
  co_return Result<void>();
}

void ClientConnection::break_off(const Error& why) {
  if (!broken_) broken_ = Error(ErrorKind::kIo, EIO, why.message());
  socket_.shut_down();
  // One who reads may be filling the memory of another: that one waits until the reader is back.
  if (reading_) return;
  for (Pending* pending : pending_) {
    if (!pending->done) pending->error = broken_;
    pending->done = true;
  }
  changed_.wake_all();
}

ClientConnection::Pending* ClientConnection::find(uint64_t cookie) {
  for (Pending* pending : pending_) {
    if (pending->request.cookie == cookie && !pending->done) return pending;
  }
  return nullptr;
}

Async<> ClientConnection::read(uint64_t offset, IoSlice to) {
  Pending pending;
  pending.request.command = static_cast<uint16_t>(Command::kRead);
  pending.request.offset = offset;
  pending.request.length = static_cast<uint32_t>(to.size());
  pending.to = to;
  // A server may send one part twice and another never: what our memory held is nobody's.
  if (info_.structured) to.fill(0);
  IoSlice nothing;
  co_return co_await exchange(&pending, nothing);
}

Async<> ClientConnection::write(uint64_t offset, IoSlice from, bool fua) {
  Pending pending;
  pending.request.command = static_cast<uint16_t>(Command::kWrite);
  pending.request.flags = fua ? kFua : uint16_t{0};
  pending.request.offset = offset;
  pending.request.length = static_cast<uint32_t>(from.size());
  co_return co_await exchange(&pending, from);
}

Async<> ClientConnection::command(Command command, uint16_t flags, ByteRange range) {
  Pending pending;
  pending.request.command = static_cast<uint16_t>(command);
  pending.request.flags = flags;
  pending.request.offset = range.offset;
  pending.request.length = static_cast<uint32_t>(range.length);
  IoSlice nothing;
  co_return co_await exchange(&pending, nothing);
}

Async<StatusExtent> ClientConnection::block_status(ByteRange range) {
  Pending pending;
  pending.request.command = static_cast<uint16_t>(Command::kBlockStatus);
  pending.request.flags = kReqOne;
  pending.request.offset = range.offset;
  pending.request.length = static_cast<uint32_t>(range.length);
  IoSlice nothing;
  CO_TRY_VOID(co_await exchange(&pending, nothing));
  if (!pending.status) co_return bad_reply("it does not tell the state of its blocks");
  co_return *pending.status;
}

Async<> ClientConnection::disconnect() {
  if (!broken_) {
    Pending pending;
    pending.request.magic = kRequestMagic;
    pending.request.command = static_cast<uint16_t>(Command::kDisconnect);
    IoSlice nothing;
    Result<void> ignored = co_await send(pending, nothing);
    broken_ = Error(ErrorKind::kIo, "The NBD connection is closed");
  }
  socket_.shut_down();
  co_return Result<void>();
}

// ---- Replies ----

Async<> ClientConnection::receive_into(IoSlice to) {
  std::vector<iovec> pieces = to.to_iovecs();
  for (const iovec& piece : pieces) {
    std::span<uint8_t> part(static_cast<uint8_t*>(piece.iov_base), piece.iov_len);
    CO_TRY_VOID(co_await socket_.receive(part));
  }
  co_return Result<void>();
}

Async<> ClientConnection::receive_one() {
  if (broken_) co_return *broken_;
  be32 magic;
  CO_TRY_VOID(co_await socket_.receive(room_of(magic)));
  if (magic == kSimpleReplyMagic) {
    SimpleReply reply;
    std::span<uint8_t> rest = room_of(reply).subspan(sizeof magic);
    CO_TRY_VOID(co_await socket_.receive(rest));
    co_return co_await receive_simple(reply.error, reply.cookie);
  }
  if (magic != kChunkMagic || !info_.structured) co_return bad_reply("a reply without its magic");
  Chunk chunk;
  std::span<uint8_t> rest = room_of(chunk).subspan(sizeof magic);
  CO_TRY_VOID(co_await socket_.receive(rest));
  co_return co_await receive_chunk(chunk);
}

Async<> ClientConnection::receive_simple(be32 error, uint64_t cookie) {
  Pending* pending = find(cookie);
  if (pending == nullptr) co_return bad_reply("a reply to nothing that was asked");
  if (error != 0U) {
    pending->error = Error::from_errno(errno_of_wire(error));
  } else if (!pending->to.empty()) {
    if (info_.structured) co_return bad_reply("a simple reply to a read");
    CO_TRY_VOID(co_await receive_into(pending->to));
  }
  pending->done = true;
  co_return Result<void>();
}

Async<> ClientConnection::receive_chunk(Chunk chunk) {
  Pending* pending = find(chunk.cookie);
  if (pending == nullptr) co_return bad_reply("a reply to nothing that was asked");
  auto type = static_cast<ChunkType>(chunk.type.value());
  if (type == ChunkType::kOffsetData) {
    CO_TRY_VOID(co_await receive_data(pending, chunk.length));
  } else {
    if (chunk.length > kMaxChunk) co_return bad_reply("a chunk is too long");
    std::vector<uint8_t> body(chunk.length);
    CO_TRY_VOID(co_await socket_.receive(body));
    if ((chunk.type & kErrorChunkBit) != 0) {
      CO_TRY_VOID(take_error(pending, body));
    } else if (type == ChunkType::kOffsetHole) {
      CO_TRY_VOID(take_hole(pending, body));
    } else if (type == ChunkType::kBlockStatus) {
      CO_TRY_VOID(take_status(pending, body));
    } else if (type != ChunkType::kNone || !body.empty()) {
      co_return bad_reply("a chunk of an unknown type");
    }
  }
  if ((chunk.flags & kDone) == 0) co_return Result<void>();
  // What was not sent would be left as it was in memory.
  if (!pending->error && pending->received != pending->to.size()) {
    co_return bad_reply("a read was not answered in full");
  }
  pending->done = true;
  co_return Result<void>();
}

std::optional<IoSlice> ClientConnection::place_of(Pending* pending, uint64_t offset,
                                                  uint64_t length) {
  uint64_t start = pending->request.offset;
  uint64_t room = pending->to.size();
  bool fits = offset >= start && offset - start <= room && length <= room - (offset - start) &&
              length <= room - pending->received;
  if (!fits) return std::nullopt;
  pending->received += length;
  return pending->to.slice(static_cast<size_t>(offset - start), static_cast<size_t>(length));
}

Async<> ClientConnection::receive_data(Pending* pending, uint64_t length) {
  be64 offset;
  if (length < sizeof offset) co_return bad_reply("a chunk is too short");
  CO_TRY_VOID(co_await socket_.receive(room_of(offset)));
  std::optional<IoSlice> place = place_of(pending, offset, length - sizeof offset);
  if (!place) co_return bad_reply("data that was not asked for");
  co_return co_await receive_into(*place);
}

Result<void> ClientConnection::take_hole(Pending* pending, std::span<const uint8_t> body) {
  Cursor cursor(body);
  uint64_t offset = cursor.take<be64>();
  uint64_t length = cursor.take<be32>();
  std::optional<IoSlice> place;
  if (cursor.finished()) place = place_of(pending, offset, length);
  if (!place) return bad_reply("a hole that was not asked for");
  place->fill(0);
  return {};
}

Result<void> ClientConnection::take_status(Pending* pending, std::span<const uint8_t> body) {
  Cursor cursor(body);
  uint32_t context = cursor.take<be32>();
  StatusExtent first = cursor.take<StatusExtent>();
  bool asked = pending->request.command == static_cast<uint16_t>(Command::kBlockStatus);
  if (!cursor.good() || !asked || context != info_.context || first.length == 0U) {
    return bad_reply("a state of blocks that makes no sense");
  }
  if (!pending->status) pending->status = first;
  return {};
}

Result<void> ClientConnection::take_error(Pending* pending, std::span<const uint8_t> body) {
  Cursor cursor(body);
  uint32_t number = cursor.take<be32>();
  uint16_t length = cursor.take<be16>();
  std::string text = cursor.take_text(length);
  if (!cursor.good() || number == 0) return bad_reply("an error that makes no sense");
  if (!pending->error) pending->error = Error::from_errno(errno_of_wire(number));
  return {};
}

}  // namespace calf::nbd
