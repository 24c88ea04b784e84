#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/bench/limits/limits.h"
#include "tests/bench/limits/raw_file.h"
#include "tests/bench/limits/threads.h"

namespace calf::bench {
namespace {

constexpr uint64_t kPart = uint64_t{256} << 10;      // stays in a core's cache
constexpr uint64_t kSmallPart = uint64_t{64} << 10;  // with what it is compared with

struct Part {
  uint64_t offset;
  size_t length;
};

// The parts of the file that are no holes, `most` bytes at a time.
std::vector<Part> data_parts(int fd, uint64_t most = kPart) {
  std::vector<Part> parts;
  for (off_t at = 0;;) {
    const off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0) return parts;
    at = ::lseek(fd, data, SEEK_HOLE);
    const auto end = static_cast<uint64_t>(at);
    for (auto part = static_cast<uint64_t>(data); part < end;) {
      const uint64_t length = std::min(most, end - part);
      parts.push_back({part, length});
      part += length;
    }
  }
}

// Does `work(part, buffer, buffer)` for all parts.
template <class Work>
int by_parts(const std::vector<Part>& parts, Work work) {
  return by_threads(2, parts.size(), [&] {
    return [&, first = std::vector<char>(kPart), second = std::vector<char>(kPart)](
               size_t i) mutable { return work(parts[i], first.data(), second.data()); };
  });
}

}  // namespace

int run_copy_limit(const char* from, const char* to) {
  RawFile source(from, O_RDONLY), target(to, O_RDWR | O_CREAT | O_TRUNC);
  if (source.fd < 0 || target.fd < 0) return errno;
  if (::ftruncate(target.fd, static_cast<off_t>(source.size())) != 0) return errno;
  // Or each page asks for a block of its own.
  for (Part part : data_parts(source.fd, UINT64_MAX)) {
    const auto length = static_cast<off_t>(part.length);
    if (::fallocate(target.fd, 0, static_cast<off_t>(part.offset), length) != 0) return errno;
  }
  return by_parts(data_parts(source.fd), [&](Part part, char* buffer, char*) {
    int error = source.read(buffer, part.length, part.offset);
    if (error != 0) return error;
    return target.write(buffer, part.length, part.offset);
  });
}

int run_compare_limit(const char* first, const char* second) {
  RawFile one(first, O_RDONLY), other(second, O_RDONLY);
  if (one.fd < 0 || other.fd < 0) return errno;
  return by_parts(data_parts(one.fd, kSmallPart), [&](Part part, char* a, char* b) {
    int error = one.read(a, part.length, part.offset);
    if (error == 0) error = other.read(b, part.length, part.offset);
    if (error != 0) return error;
    return std::memcmp(a, b, part.length) == 0 ? 0 : EPROTO;
  });
}

int run_scan_limit(const char* file) {
  RawFile source(file, O_RDONLY);
  if (source.fd < 0) return errno;
  return by_parts(data_parts(source.fd), [&](Part part, char* buffer, char*) {
    return source.read(buffer, part.length, part.offset);
  });
}

int run_look_limit(const char* file) {
  RawFile source(file, O_RDONLY);
  if (source.fd < 0) return errno;
  char header[4096];
  return source.read(header, sizeof header, 0);
}

int run_store_limit(const char* file, uint64_t bytes) {
  RawFile target(file, O_RDWR | O_CREAT | O_TRUNC);
  if (target.fd < 0) return errno;
  const std::vector<char> buffer(kPart, 1);
  for (uint64_t at = 0; at < bytes; at += kPart) {
    const size_t length = std::min(kPart, bytes - at);
    if (int error = target.write(buffer.data(), length, at); error != 0) return error;
  }
  return ::fdatasync(target.fd) == 0 ? 0 : errno;
}

}  // namespace calf::bench
