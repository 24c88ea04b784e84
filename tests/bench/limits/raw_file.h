// A file as the limits use it: descriptors and errno, nothing between them and the kernel.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace calf::bench {

struct RawFile {
  RawFile(const char* name, int flags) : fd(::open(name, flags | O_CLOEXEC, 0666)) {}
  ~RawFile() {
    if (fd >= 0) ::close(fd);
  }
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;
  uint64_t size() const { return static_cast<uint64_t>(::lseek(fd, 0, SEEK_END)); }
  // 0 or an errno.
  int read(char* to, size_t bytes, uint64_t at) const {
    return moved(::pread(fd, to, bytes, static_cast<off_t>(at)), bytes);
  }
  int write(const char* from, size_t bytes, uint64_t at) const {
    return moved(::pwrite(fd, from, bytes, static_cast<off_t>(at)), bytes);
  }
  int fd;

 private:
  static int moved(ssize_t done, size_t wanted) {
    if (done < 0) return errno;
    return static_cast<size_t>(done) == wanted ? 0 : EIO;
  }
};

}  // namespace calf::bench
