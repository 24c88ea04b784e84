#include "block/nbd/server_connection.h"

#include <algorithm>
#include <cerrno>

#include "block/nbd/cursor.h"

namespace calf::nbd {
namespace {

// Of one client.
constexpr unsigned kMaxInFlight = 32;
constexpr uint64_t kMaxBytesInFlight = kMaxPayload;
// Shorter zeroes are sent as they are.
constexpr uint64_t kMinHole = 4096;
// One answer lists so many extents, after so many questions to the disk.
constexpr size_t kMaxExtents = 4096;
constexpr unsigned kMaxStatusSteps = 65536;

bool has_payload(Command command) {
  return command == Command::kWrite;
}

bool changes(Command command) {
  return command == Command::kWrite || command == Command::kTrim ||
         command == Command::kWriteZeroes;
}

}  // namespace

// ---- Requests ----

Task<void> ServerConnection::reserve(Job* job) {
  uint64_t bytes = 0;
  if (has_payload(job->command) || job->command == Command::kRead) {
    bytes = std::min<uint64_t>(job->range.length, kMaxPayload);
  }
  while (in_flight_ >= kMaxInFlight || bytes_in_flight_ + bytes > kMaxBytesInFlight)
    co_await memory_.answered.wait();
  AsyncMutex::Guard guard = co_await memory_.turn.lock();
  while (bytes > memory_.left)
    co_await memory_.answered.wait();
  job->reserved = bytes;
  ++in_flight_;
  bytes_in_flight_ += bytes;
  memory_.left -= bytes;
}

void ServerConnection::release(const Job& job) {
  --in_flight_;
  bytes_in_flight_ -= job.reserved;
  memory_.left += job.reserved;
  memory_.answered.wake_all();
}

// False at the end. The job has its share of what may be in flight.
Async<bool> ServerConnection::next(Job* job) {
  Request request;
  CO_TRY(bool more, co_await socket_.receive_or_end(room_of(request)));
  if (!more) co_return false;
  if (request.magic != kRequestMagic) {
    co_return Error(ErrorKind::kInvalid, "NBD client: a request has no magic number");
  }
  job->command = static_cast<Command>(request.command.value());
  if (job->command == Command::kDisconnect) co_return false;
  job->flags = request.flags;
  job->cookie = request.cookie;
  job->range = {request.offset, request.length};
  bool payload = has_payload(job->command);
  if (payload && request.length > kMaxPayload) {
    co_return Error(ErrorKind::kInvalid, "NBD client: a write is too long");
  }
  co_await reserve(job);
  if (payload) {
    job->payload.resize(request.length);
    Result<void> received = co_await socket_.receive(job->payload);
    if (!received.ok()) {
      release(*job);
      co_return std::move(received.error());
    }
  }
  co_return true;
}

Async<> ServerConnection::run() {
  Result<void> result;
  while (true) {
    Job job;
    Result<bool> more = co_await next(&job);
    if (!more.ok()) result = std::move(more.error());
    if (!more.ok() || !*more) break;
    executor_.spawn(handle(this, std::move(job)));
  }
  while (in_flight_ > 0)
    co_await memory_.answered.wait();
  co_return result;
}

Task<void> ServerConnection::handle(ServerConnection* self, Job job) {
  Result<void> done = self->check(job);
  if (done.ok()) {
    done = co_await self->perform(job);
  } else {
    Error error = std::move(done.error());
    done = co_await self->reply_error(job, std::move(error));
  }
  // The reply could not be sent: nobody is there any more.
  if (!done.ok()) self->socket_.shut_down();
  self->release(job);
}

Result<void> ServerConnection::check(const Job& job) const {
  uint16_t known = 0;
  switch (job.command) {
    case Command::kRead:
      known = kDontFragment;
      break;
    case Command::kWrite:
    case Command::kTrim:
      known = kFua;
      break;
    case Command::kWriteZeroes:
      known = kFua | kNoHole;
      break;
    case Command::kBlockStatus:
      known = kReqOne;
      if (!session_.allocation_context) {
        return Error(ErrorKind::kInvalid, "no meta context was negotiated");
      }
      break;
    case Command::kFlush:
    case Command::kDisconnect:
      break;
    default:
      return Error(ErrorKind::kInvalid, "unknown command");
  }
  // Some clients send FUA with everything.
  if ((job.flags & ~(known | kFua)) != 0) {
    return Error(ErrorKind::kInvalid, "unknown flags");
  }
  if (job.command == Command::kFlush) return {};
  if (changes(job.command) && !exported_.writable) {
    return Error(ErrorKind::kReadOnly, EPERM, "the export is read-only");
  }
  uint64_t size = exported_.node->size();
  if (job.range.offset > size || job.range.length > size - job.range.offset) {
    int error = changes(job.command) ? ENOSPC : EINVAL;
    return Error(ErrorKind::kInvalid, error, "the request reaches behind the end of the export");
  }
  if (job.command == Command::kRead && job.range.length > kMaxPayload) {
    return Error(ErrorKind::kInvalid, "the read is too long");
  }
  if (job.command == Command::kBlockStatus && job.range.empty()) {
    return Error(ErrorKind::kInvalid, "the range is empty");
  }
  return {};
}

// Does what was asked and answers. An error means that the answer could not be sent.
Async<> ServerConnection::perform(Job& job) {
  block::Node& node = *exported_.node;
  bool fua = (job.flags & kFua) != 0;
  Result<void> done;
  switch (job.command) {
    case Command::kRead:
      co_return co_await read(job);
    case Command::kBlockStatus:
      co_return co_await block_status(job);
    case Command::kWrite: {
      FlatIo io{std::span<const uint8_t>(job.payload)};
      block::WriteFlags flags{fua};
      done = co_await node.write(job.range.offset, io.slice(), flags);
      break;
    }
    case Command::kWriteZeroes: {
      block::ZeroFlags flags{(job.flags & kNoHole) == 0, fua};
      done = co_await node.write_zeroes(job.range, flags);
      break;
    }
    case Command::kTrim:
      done = co_await node.discard(job.range);
      if (done.ok() && fua) done = co_await node.flush();
      break;
    default:
      done = co_await node.flush();
      break;
  }
  if (!done.ok()) {
    Error error = std::move(done.error());
    co_return co_await reply_error(job, std::move(error));
  }
  std::span<const uint8_t> nothing;
  co_return co_await reply_done(job, nothing);
}

Async<> ServerConnection::read(const Job& job) {
  std::vector<uint8_t> room(job.range.length);
  bool whole = !session_.structured || (job.flags & kDontFragment) != 0 || job.range.empty();
  if (!whole) co_return co_await read_chunks(job, room);
  FlatIo io{std::span<uint8_t>(room)};
  Result<void> done = co_await exported_.node->read(job.range.offset, io.slice());
  if (!done.ok()) {
    Error error = std::move(done.error());
    co_return co_await reply_error(job, std::move(error));
  }
  if (!session_.structured || room.empty()) co_return co_await reply_done(job, room);
  be64 offset = job.range.offset;
  std::vector<uint8_t> head = joined(offset);
  co_return co_await reply_chunk(job, ChunkType::kOffsetData, true, std::move(head), room);
}

// Zeroes are told, data is sent.
Async<> ServerConnection::read_chunks(const Job& job, std::span<uint8_t> room) {
  uint64_t at = job.range.offset;
  uint64_t end = job.range.end();
  while (at < end) {
    ByteRange rest{at, end - at};
    Result<BlockState> state = co_await exported_.state(rest);
    if (!state.ok()) {
      Error error = std::move(state.error());
      co_return co_await reply_error(job, std::move(error));
    }
    uint64_t length = std::min(std::max<uint64_t>(state->length, 1), rest.length);
    bool hole = state->zero && length >= kMinHole;
    // A short stretch of anything: the rest is read with it.
    if (!hole && length < kMinHole) length = std::min(kMinHole, rest.length);
    bool done = at + length == end;
    be64 offset = at;
    std::vector<uint8_t> head = joined(offset);
    if (hole) {
      be32 size = static_cast<uint32_t>(length);
      append(&head, bytes_of(size));
      std::span<const uint8_t> nothing;
      CO_TRY_VOID(
          co_await reply_chunk(job, ChunkType::kOffsetHole, done, std::move(head), nothing));
    } else {
      std::span<uint8_t> part = room.subspan(at - job.range.offset, length);
      FlatIo io(part);
      Result<void> read = co_await exported_.node->read(at, io.slice());
      if (!read.ok()) {
        Error error = std::move(read.error());
        co_return co_await reply_error(job, std::move(error));
      }
      CO_TRY_VOID(co_await reply_chunk(job, ChunkType::kOffsetData, done, std::move(head), part));
    }
    at += length;
  }
  co_return Result<void>();
}

Async<> ServerConnection::block_status(const Job& job) {
  std::vector<StatusExtent> extents;
  uint64_t at = job.range.offset;
  uint64_t end = job.range.end();
  size_t limit = (job.flags & kReqOne) != 0 ? 1 : kMaxExtents;
  for (unsigned step = 0; at < end && step < kMaxStatusSteps; ++step) {
    ByteRange rest{at, end - at};
    Result<BlockState> state = co_await exported_.state(rest);
    if (!state.ok()) {
      Error error = std::move(state.error());
      co_return co_await reply_error(job, std::move(error));
    }
    uint32_t flags = (state->hole ? kStateHole : 0) | (state->zero ? kStateZero : 0);
    uint32_t length = static_cast<uint32_t>(std::min(state->length, rest.length));
    bool joins = !extents.empty() && extents.back().flags == flags;
    if (!joins && extents.size() == limit) break;
    if (joins) {
      extents.back().length += length;
    } else {
      extents.push_back({length, flags});
    }
    at += length;
  }
  be32 context = 1U;
  std::vector<uint8_t> head = joined(context);
  std::span<const uint8_t> list(reinterpret_cast<const uint8_t*>(extents.data()),
                                extents.size() * sizeof(StatusExtent));
  co_return co_await reply_chunk(job, ChunkType::kBlockStatus, true, std::move(head), list);
}

// ---- Replies ----

Async<> ServerConnection::reply_error(const Job& job, Error error) {
  uint32_t number = wire_error(error);
  if (session_.structured) {
    std::string text = error.message().substr(0, 1024);
    be32 code = number;
    be16 length = static_cast<uint16_t>(text.size());
    std::vector<uint8_t> head = joined(code, length, text);
    std::span<const uint8_t> nothing;
    co_return co_await reply_chunk(job, ChunkType::kError, true, std::move(head), nothing);
  }
  SimpleReply reply;
  reply.magic = kSimpleReplyMagic;
  reply.error = number;
  reply.cookie = job.cookie;
  AsyncMutex::Guard guard = co_await reply_lock_.lock();
  co_return co_await socket_.send(bytes_of(reply));
}

// A simple reply; structured where a read got nothing.
Async<> ServerConnection::reply_done(const Job& job, std::span<const uint8_t> data) {
  if (session_.structured) {
    std::vector<uint8_t> head;
    co_return co_await reply_chunk(job, ChunkType::kNone, true, std::move(head), data);
  }
  SimpleReply reply;
  reply.magic = kSimpleReplyMagic;
  reply.error = 0U;
  reply.cookie = job.cookie;
  iovec pieces[] = {{&reply, sizeof reply}, {const_cast<uint8_t*>(data.data()), data.size()}};
  AsyncMutex::Guard guard = co_await reply_lock_.lock();
  co_return co_await socket_.send(std::span<iovec>(pieces));
}

Async<> ServerConnection::reply_chunk(const Job& job, ChunkType type, bool done,
                                      std::vector<uint8_t> head, std::span<const uint8_t> data) {
  Chunk chunk;
  chunk.magic = kChunkMagic;
  chunk.flags = done ? kDone : uint16_t{0};
  chunk.type = static_cast<uint16_t>(type);
  chunk.cookie = job.cookie;
  chunk.length = static_cast<uint32_t>(head.size() + data.size());
  iovec pieces[] = {{&chunk, sizeof chunk},
                    {head.data(), head.size()},
                    {const_cast<uint8_t*>(data.data()), data.size()}};
  AsyncMutex::Guard guard = co_await reply_lock_.lock();
  co_return co_await socket_.send(std::span<iovec>(pieces));
}

}  // namespace calf::nbd
