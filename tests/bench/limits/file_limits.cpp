#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/bench/limits/limits.h"

namespace calf::bench {
namespace {

constexpr uint64_t kPart = uint64_t{256} << 10;  // stays in a core's cache

struct File {
  explicit File(const char* name, int flags) : fd(::open(name, flags | O_CLOEXEC, 0666)) {}
  ~File() {
    if (fd >= 0) ::close(fd);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd;
};

struct Part {
  off_t offset;
  size_t length;
};

// The parts of the file that are no holes.
std::vector<Part> data_parts(int fd) {
  std::vector<Part> parts;
  for (off_t at = 0;;) {
    const off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0) return parts;
    at = ::lseek(fd, data, SEEK_HOLE);
    for (off_t part = data; part < at; part += static_cast<off_t>(kPart)) {
      parts.push_back({part, std::min(kPart, static_cast<uint64_t>(at - part))});
    }
  }
}

// Does `work(part, buffer, buffer)` for all parts; the first error ends it.
template <class Work>
int by_two_threads(const std::vector<Part>& parts, Work work) {
  std::atomic<size_t> next{0};
  std::atomic<int> error{0};
  auto run = [&] {
    std::vector<char> first(kPart), second(kPart);
    for (size_t i = next++; i < parts.size() && error == 0; i = next++) {
      if (int failed = work(parts[i], first.data(), second.data()); failed != 0) error = failed;
    }
  };
  std::thread other(run);
  run();
  other.join();
  return error;
}

int moved(ssize_t done, size_t wanted) {
  if (done < 0) return errno;
  return static_cast<size_t>(done) == wanted ? 0 : EIO;
}

}  // namespace

int run_copy_limit(const char* from, const char* to) {
  File source(from, O_RDONLY), target(to, O_RDWR | O_CREAT | O_TRUNC);
  if (source.fd < 0 || target.fd < 0) return errno;
  if (::ftruncate(target.fd, ::lseek(source.fd, 0, SEEK_END)) != 0) return errno;
  return by_two_threads(data_parts(source.fd), [&](Part part, char* buffer, char*) {
    int error = moved(::pread(source.fd, buffer, part.length, part.offset), part.length);
    if (error != 0) return error;
    return moved(::pwrite(target.fd, buffer, part.length, part.offset), part.length);
  });
}

int run_compare_limit(const char* first, const char* second) {
  File one(first, O_RDONLY), other(second, O_RDONLY);
  if (one.fd < 0 || other.fd < 0) return errno;
  return by_two_threads(data_parts(one.fd), [&](Part part, char* a, char* b) {
    int error = moved(::pread(one.fd, a, part.length, part.offset), part.length);
    if (error == 0) error = moved(::pread(other.fd, b, part.length, part.offset), part.length);
    if (error != 0) return error;
    return std::memcmp(a, b, part.length) == 0 ? 0 : EPROTO;
  });
}

int run_scan_limit(const char* file) {
  File source(file, O_RDONLY);
  if (source.fd < 0) return errno;
  return by_two_threads(data_parts(source.fd), [&](Part part, char* buffer, char*) {
    return moved(::pread(source.fd, buffer, part.length, part.offset), part.length);
  });
}

int run_look_limit(const char* file) {
  File source(file, O_RDONLY);
  if (source.fd < 0) return errno;
  char header[4096];
  return moved(::pread(source.fd, header, sizeof header, 0), sizeof header);
}

int run_store_limit(const char* file, uint64_t bytes) {
  File target(file, O_RDWR | O_CREAT | O_TRUNC);
  if (target.fd < 0) return errno;
  const std::vector<char> buffer(kPart, 1);
  for (uint64_t at = 0; at < bytes; at += kPart) {
    const size_t length = std::min(kPart, bytes - at);
    const ssize_t done = ::pwrite(target.fd, buffer.data(), length, static_cast<off_t>(at));
    if (int error = moved(done, length); error != 0) return error;
  }
  return ::fdatasync(target.fd) == 0 ? 0 : errno;
}

}  // namespace calf::bench
