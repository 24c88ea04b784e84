#include "block/luks/luks_file.h"

namespace calf::luks {

Async<> LuksFile::read(uint64_t offset, std::span<uint8_t> bytes) {
  FlatIo io(bytes);
  co_return co_await file_.read(offset, io.slice());
}

Async<> LuksFile::write(uint64_t offset, std::span<const uint8_t> bytes) {
  FlatIo io(bytes);
  co_return co_await file_.write(offset, io.slice(), {});
}

}  // namespace calf::luks
