// HeaderFile: the header in memory and its changes in the file.
//
// Its fields lie in one sector, which a disk writes whole or not at all. Extensions and the backing
// name may reach further; they change over a bridge, one sector that needs nothing behind it but a
// name in a place of its own:
//
//     sector 0                  behind it
//     old fields, extensions    old rest, old name          new name written where nothing stands
//     new fields, short list    …                 new name  one write: everything new is valid
//     (unchanged)               new rest, name              nobody looks at it
//     new fields, extensions    new rest, name              one write
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

  // The same for changes of extensions and the backing name; durable at the end. A crash leaves the
  // old header or the new one. (Unless cluster 0 is so full that there is no room for the bridge:
  // then it is written over.) kNoSpace if the new one does not fit.
  Async<> rewrite(std::function<void(Header&)> change);

 private:
  Async<uint64_t> cross_bridge(const Header& header, uint64_t free_from);
  Async<> put(uint64_t offset, std::span<const uint8_t> bytes);
  void adopt(Header header, std::span<const uint8_t> bytes);

  HostFile& file_;
  AsyncMutex mutex_;
  Header header_;
  std::vector<uint8_t> raw_;
};

}  // namespace calf::qcow2
