// HeaderFile: the header in memory and its changes in the file.
#pragma once

#include <functional>
#include <vector>

#include "block/io/sync.h"
#include "block/qcow2/header.h"
#include "block/qcow2/host_file.h"

namespace calf::qcow2 {

class HeaderFile {
 public:
  HeaderFile(Executor& executor, HostFile& file) : file_(file), mutex_(executor) {}

  // Reads and parses cluster 0.
  Async<> load();
  const Header& get() const { return header_; }

  // Writes the header with `change` applied: one write of the first 72 or 104 bytes, which lie in
  // one sector, so a crash leaves the old header or the new. The header in memory changes only if
  // the write succeeds. Not synced.
  Async<> update(std::function<void(Header&)> change);
  // The same for changes of extensions and names: the whole header is written, and durable at the
  // end. Up to 512 bytes are one sector, old or new. Of a longer one the part behind comes first
  // (and before it the backing name is moved, if it stands in the way), then the first sector
  // switches over. What is left: an extension that began behind the first sector already, and moves
  // or changes, must not be believed meanwhile (bitmaps: their autoclear bit is off).
  Async<> rewrite(std::function<void(Header&)> change);

 private:
  Async<> move_backing_name(uint64_t free_from);

  HostFile& file_;
  AsyncMutex mutex_;
  Header header_;
  std::vector<uint8_t> raw_;
};

}  // namespace calf::qcow2
