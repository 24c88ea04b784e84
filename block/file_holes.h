// FileHoles: where a file has data and where nothing, as its file system tells (SEEK_DATA).
//
// The last answer is kept: an image's clusters are asked for one by one, and many lie in one
// stretch of the file. Whoever changes the file calls forget() when the change has ended. (A
// changer in another process is kept out by image locks, or the reader asked for a moving picture:
// force-share.)
#pragma once

#include <cstdint>
#include <optional>

#include "block/base/byte_range.h"
#include "block/base/result.h"
#include "block/io/executor.h"

namespace calf::block {

struct FileStretch {
  ByteRange range;  // a hole at the end of the file reaches to the end of all offsets
  bool hole = false;
};

class FileHoles {
 public:
  // The rest of the stretch that `offset` lies in. Nothing: the file system cannot tell, so all may
  // be data. `fd` stays open meanwhile.
  Async<std::optional<FileStretch>> at(Executor& executor, int fd, uint64_t offset);
  // The same from what is remembered.
  std::optional<FileStretch> remembered(uint64_t offset) const {
    if (!last_ || !last_->range.contains(offset)) return std::nullopt;
    return FileStretch{{offset, last_->range.end() - offset}, last_->hole};
  }
  void forget() {
    last_.reset();
    ++changes_;
  }

 private:
  std::optional<FileStretch> last_;
  uint64_t changes_ = 0;
  bool can_tell_ = true;
};

}  // namespace calf::block
