#include "block/base_fingerprint.h"

#include <libdeflate.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "block/base/endian.h"

namespace calf::block {
namespace {

constexpr uint32_t kLayout = 1;

struct Encoded {
  be32 layout;
  be32 digest;
  be64 length;
  be64 mtime_sec;
  be32 mtime_nsec;
  be32 name;
};
static_assert(sizeof(Encoded) == 32);

// Partition table, boot loader and the superblock of the first file system; a backup GPT.
constexpr uint64_t kHead = uint64_t{2} << 20;
constexpr uint64_t kTail = uint64_t{1} << 20;
constexpr uint64_t kPiece = 4096;
constexpr uint64_t kPieces = 64;
// Stays in a core's cache.
constexpr uint64_t kBuffer = uint64_t{128} << 10;

uint32_t crc(uint32_t begin, std::span<const uint8_t> bytes) {
  return libdeflate_crc32(begin, bytes.data(), bytes.size());
}

uint32_t crc_of_name(const std::string& name) {
  return crc(0, {reinterpret_cast<const uint8_t*>(name.data()), name.size()});
}

// Which bytes of a file of `length` are looked at.
std::vector<ByteRange> samples(uint64_t length) {
  if (length <= kHead + kTail + kPieces * kPiece) return {{0, length}};
  std::vector<ByteRange> out{{0, kHead}};
  uint64_t between = length - kHead - kTail;
  for (uint64_t i = 0; i < kPieces; ++i) {
    out.push_back({align_down(kHead + between / kPieces * i, kPiece), kPiece});
  }
  out.push_back({length - kTail, kTail});
  return out;
}

Async<uint32_t> digest_of(Executor& executor, FileNode& file, const FormatDriver& driver) {
  CO_TRY(uint32_t digest, co_await driver.digest_tables(executor, file));
  std::vector<ByteRange> ranges = samples(file.size());
  std::vector<uint8_t> buffer(kBuffer);
  for (ByteRange range : ranges) {
    while (!range.empty()) {
      const std::span<uint8_t> bytes(buffer.data(), std::min<uint64_t>(range.length, kBuffer));
      FlatIo io{bytes};
      CO_TRY_VOID(co_await file.read(range.offset, io.slice()));
      digest = crc(digest, bytes);
      range = {range.offset + bytes.size(), range.length - bytes.size()};
    }
  }
  co_return digest;
}

// What the file system says; no digest.
Result<BaseFingerprint> look_at(const FileNode& file, const std::string& recorded_name) {
  struct stat st {};
  if (::fstat(file.fd(), &st) != 0) return Error::from_errno(errno);
  BaseFingerprint out;
  out.length = file.size();
  // A device's node says nothing about when its bytes were written.
  if (!file.is_block_device()) {
    out.mtime_sec = st.st_mtim.tv_sec;
    out.mtime_nsec = static_cast<uint32_t>(st.st_mtim.tv_nsec);
  }
  out.name = crc_of_name(recorded_name);
  return out;
}

}  // namespace

std::optional<BaseFingerprint> BaseFingerprint::decode(std::span<const uint8_t> bytes) {
  Encoded raw{};
  if (bytes.size() < sizeof raw) return std::nullopt;
  std::memcpy(&raw, bytes.data(), sizeof raw);
  if (raw.layout != kLayout) return std::nullopt;
  BaseFingerprint out;
  out.digest = raw.digest;
  out.length = raw.length;
  out.mtime_sec = static_cast<int64_t>(raw.mtime_sec.value());
  out.mtime_nsec = raw.mtime_nsec;
  out.name = raw.name;
  return out;
}

std::vector<uint8_t> BaseFingerprint::encode() const {
  Encoded raw{};
  raw.layout = kLayout;
  raw.digest = digest;
  raw.length = length;
  raw.mtime_sec = static_cast<uint64_t>(mtime_sec);
  raw.mtime_nsec = mtime_nsec;
  raw.name = name;
  auto* bytes = reinterpret_cast<const uint8_t*>(&raw);
  return {bytes, bytes + sizeof raw};
}

Async<std::vector<uint8_t>> fingerprint_base(Executor& executor, const FormatTable& formats,
                                             std::string path, std::string format,
                                             std::string recorded_name) {
  const FormatDriver* driver = formats.find(format);
  if (driver == nullptr) {
    co_return make_error(ErrorKind::kUnsupported, "Unknown driver '{}'", format);
  }
  FileOptions options;
  CO_TRY(std::unique_ptr<FileNode> file, co_await FileNode::open(executor, path, options));
  CO_TRY(BaseFingerprint noted, look_at(*file, recorded_name));
  CO_TRY(noted.digest, co_await digest_of(executor, *file, *driver));
  CO_TRY_VOID(co_await file->close());
  co_return noted.encode();
}

BaseState look_at_base(const std::string& path, const std::string& recorded_name,
                       std::span<const uint8_t> noted_bytes) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return BaseState::kMissing;
  std::optional<BaseFingerprint> noted = BaseFingerprint::decode(noted_bytes);
  bool known = noted && noted->name == crc_of_name(recorded_name) && S_ISREG(st.st_mode);
  if (!known) return BaseState::kUnknown;
  if (noted->length != static_cast<uint64_t>(st.st_size)) return BaseState::kChanged;
  bool same_time = noted->mtime_sec == st.st_mtim.tv_sec &&
                   noted->mtime_nsec == static_cast<uint32_t>(st.st_mtim.tv_nsec);
  return same_time ? BaseState::kAsNoted : BaseState::kTouched;
}

Async<bool> is_same_base(Executor& executor, FileNode& file, const FormatDriver& driver,
                         std::vector<uint8_t> noted_bytes, std::string recorded_name) {
  std::optional<BaseFingerprint> noted = BaseFingerprint::decode(noted_bytes);
  if (!noted) co_return true;
  CO_TRY(BaseFingerprint now, look_at(file, recorded_name));
  if (now.name != noted->name) co_return true;
  if (now.length != noted->length) co_return false;
  bool same_time = now.mtime_sec == noted->mtime_sec && now.mtime_nsec == noted->mtime_nsec;
  if (same_time && !file.is_block_device()) co_return true;
  CO_TRY(uint32_t digest, co_await digest_of(executor, file, driver));
  co_return digest == noted->digest;
}

}  // namespace calf::block
