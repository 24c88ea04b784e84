// The bytes of the NBD protocol: structures, numbers, limits.
//
//     client                               server
//        <── greeting ─────────────────────        fixed newstyle handshake
//        ─── flags, option… ──────────────>
//        <── option reply… ────────────────
//        ─── GO ──────────────────────────>
//        <── size, flags, ack ─────────────
//        ─── request (cookie) ────────────>        transmission: any number in flight,
//        <── reply or chunks (cookie) ─────        answered in any order
//
// Spec: NetworkBlockDevice/nbd, doc/proto.md. All integers are big-endian. Not supported here:
// oldstyle handshake, TLS, resize, cache, extended headers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block/base/endian.h"
#include "block/base/result.h"

namespace calf::nbd {

inline constexpr uint64_t kGreetingMagic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;    // "IHAVEOPT"
inline constexpr uint64_t kOldstyleMagic = 0x0000420281861253;
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kChunkMagic = 0x668e33ef;

struct Greeting {
  be64 magic;
  be64 option_magic;
  be16 flags;
};
static_assert(sizeof(Greeting) == 18);
// Flags of the server, and the client's answer (32 bits).
inline constexpr uint16_t kFixedNewstyle = 1 << 0;
inline constexpr uint16_t kNoZeroes = 1 << 1;

struct OptionHeader {
  be64 magic;
  be32 option;
  be32 length;
};
static_assert(sizeof(OptionHeader) == 16);

struct OptionReply {
  be64 magic;
  be32 option;
  be32 type;
  be32 length;
};
static_assert(sizeof(OptionReply) == 20);

enum class Option : uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
};

enum class ReplyType : uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kErrorBit = 1U << 31,
  kUnsupported = kErrorBit + 1,
  kPolicy = kErrorBit + 2,
  kInvalid = kErrorBit + 3,
  kTlsRequired = kErrorBit + 5,
  kUnknown = kErrorBit + 6,
  kTooBig = kErrorBit + 9,
};

enum class Info : uint16_t { kExport = 0, kName = 1, kBlockSize = 3 };

struct InfoExport {
  be16 type;
  be64 size;
  be16 flags;
};
static_assert(sizeof(InfoExport) == 12);
struct InfoBlockSize {
  be16 type;
  be32 minimum;
  be32 preferred;
  be32 maximum;
};
static_assert(sizeof(InfoBlockSize) == 14);

// Flags of an export.
inline constexpr uint16_t kHasFlags = 1 << 0;
inline constexpr uint16_t kReadOnly = 1 << 1;
inline constexpr uint16_t kSendFlush = 1 << 2;
inline constexpr uint16_t kSendFua = 1 << 3;
inline constexpr uint16_t kSendTrim = 1 << 5;
inline constexpr uint16_t kSendWriteZeroes = 1 << 6;
inline constexpr uint16_t kSendDf = 1 << 7;
inline constexpr uint16_t kCanMultiConn = 1 << 8;

struct Request {
  be32 magic;
  be16 flags;
  be16 command;
  be64 cookie;
  be64 offset;
  be32 length;
};
static_assert(sizeof(Request) == 28);

enum class Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};
// Flags of a request.
inline constexpr uint16_t kFua = 1 << 0;
inline constexpr uint16_t kNoHole = 1 << 1;
inline constexpr uint16_t kDontFragment = 1 << 2;
inline constexpr uint16_t kReqOne = 1 << 3;

struct SimpleReply {
  be32 magic;
  be32 error;
  be64 cookie;
};
static_assert(sizeof(SimpleReply) == 16);

struct Chunk {
  be32 magic;
  be16 flags;
  be16 type;
  be64 cookie;
  be32 length;
};
static_assert(sizeof(Chunk) == 20);
inline constexpr uint16_t kDone = 1 << 0;

enum class ChunkType : uint16_t {
  kNone = 0,
  kOffsetData = 1,
  kOffsetHole = 2,
  kBlockStatus = 5,
  kError = (1 << 15) + 1,
  kErrorOffset = (1 << 15) + 2,
};
inline constexpr uint16_t kErrorChunkBit = 1 << 15;

struct StatusExtent {
  be32 length;
  be32 flags;
};
// base:allocation.
inline constexpr const char* kAllocationContext = "base:allocation";
inline constexpr uint32_t kStateHole = 1 << 0;
inline constexpr uint32_t kStateZero = 1 << 1;

// Limits that peers keep to.
inline constexpr uint32_t kMaxPayload = 32 << 20;
inline constexpr uint32_t kMaxName = 4096;
// An option, or a reply to one, has so much data at most.
inline constexpr uint32_t kMaxOptionData = 64 << 10;

// Numbers of errors on the wire: Linux's, a few of them.
uint32_t wire_error(const Error& error);
// What a number on the wire means; anything unknown is EINVAL.
int errno_of_wire(uint32_t error);

}  // namespace calf::nbd
