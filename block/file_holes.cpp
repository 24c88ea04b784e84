#include "block/file_holes.h"

#include <unistd.h>

#include <cerrno>
#include <limits>

namespace calf::block {
namespace {

struct Seek {
  off_t data = -1;
  off_t hole = -1;
  int error = 0;
};

Seek seek(int fd, off_t start) {
  Seek found;
  found.data = ::lseek(fd, start, SEEK_DATA);
  if (found.data == start) found.hole = ::lseek(fd, start, SEEK_HOLE);
  if (found.data < 0 || (found.data == start && found.hole < 0)) found.error = errno;
  return found;
}

}  // namespace

Async<std::optional<FileStretch>> FileHoles::at(Executor& executor, int fd, uint64_t offset) {
  if (!can_tell_) co_return std::nullopt;
  if (auto stretch = remembered(offset)) co_return stretch;
  uint64_t changes = changes_;
  auto start = static_cast<off_t>(offset);
  Seek found = co_await executor.offload_brief([fd, start] { return seek(fd, start); });
  if (found.data < 0 && found.error != ENXIO) {
    can_tell_ = found.error != EINVAL && found.error != EOPNOTSUPP;
    co_return std::nullopt;
  }
  constexpr uint64_t kEnd = std::numeric_limits<int64_t>::max();
  FileStretch stretch;
  stretch.hole = found.data != start;
  uint64_t end = kEnd;
  if (!stretch.hole && found.hole > start) end = static_cast<uint64_t>(found.hole);
  if (stretch.hole && found.data > start) end = static_cast<uint64_t>(found.data);
  stretch.range = {offset, end - offset};
  if (changes == changes_) last_ = stretch;
  co_return stretch;
}

}  // namespace calf::block
