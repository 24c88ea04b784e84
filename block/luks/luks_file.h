// LuksFile: the header area of a LUKS volume in a file, as crypto/ sees it.
#pragma once

#include "block/crypto/luks_keys.h"
#include "block/node.h"

namespace calf::luks {

class LuksFile final : public crypto::LuksStore {
 public:
  // `file` outlives the object.
  explicit LuksFile(block::Node& file) : file_(file) {}
  Async<> read(uint64_t offset, std::span<uint8_t> bytes) override;
  Async<> write(uint64_t offset, std::span<const uint8_t> bytes) override;
  Async<> flush() override { return file_.flush(); }

 private:
  block::Node& file_;
};

}  // namespace calf::luks
