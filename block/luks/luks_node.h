// LuksNode: a LUKS1 volume as a node.
//
//     file   | header, key slots | payload: the disk, sector by sector encrypted |
//            0            payload_offset
//
// There is no mapping: every sector has its place, and one that was never written reads as noise.
// Zeroes are written as encrypted zeroes; a discard does nothing (it would say which sectors are in
// use, and what is left reads as noise).
#pragma once

#include <memory>
#include <string>

#include "block/crypto/luks_keys.h"
#include "block/crypto/secret_store.h"
#include "block/io/executor.h"
#include "block/luks/luks_file.h"
#include "block/node.h"
#include "block/whole_sectors.h"

namespace calf::luks {

struct OpenOptions {
  bool writable = false;
  // Only header() and size() are wanted: no passphrase.
  bool info_only = false;
  crypto::PassphraseSource passphrase;
};

class LuksNode final : public block::Node, private block::WholeSectors::Disk {
 public:
  // Takes the file over. Error texts are qemu-img's, without "Could not open".
  static Async<std::unique_ptr<LuksNode>> open(Executor& executor,
                                               std::unique_ptr<block::Node> file,
                                               OpenOptions options);

  const crypto::LuksHeader& header() const { return volume_.header; }
  // Key slots are changed, durably. `change` outlives the await.
  Async<> change_keys(const crypto::LuksKeyChange& change);

  uint64_t size() const override;
  const block::Limits& limits() const override { return limits_; }
  bool read_only() const override { return !options_.writable; }
  Async<> read(uint64_t offset, IoSlice to) override { return sectors_.read(offset, to); }
  Async<> write(uint64_t offset, IoSlice from, block::WriteFlags flags) override;
  Async<> write_zeroes(ByteRange range, block::ZeroFlags flags) override;
  Async<> discard(ByteRange) override { co_return Result<void>(); }
  Async<> flush() override { return file_->flush(); }
  Async<block::Extent> map(ByteRange range) override;
  // What is added reads as noise.
  Async<> truncate(uint64_t size, block::Preallocation preallocation) override;
  Async<> close() override { return file_->close(); }
  const std::string& name() const override { return file_->name(); }
  const char* format() const override { return "luks"; }

 private:
  LuksNode(Executor& executor, std::unique_ptr<block::Node> file, OpenOptions options);
  Result<void> check_writable() const;
  Async<> read_sectors(uint64_t offset, IoSlice to) override;
  Async<> write_sectors(uint64_t offset, IoSlice from) override;
  Async<> zero_sectors(ByteRange range, block::ZeroFlags flags) override;

  // The file's bytes, for crypto/encrypted_io.h.
  struct Payload {
    block::Node& file;
    Async<> read(uint64_t offset, IoSlice to) { return file.read(offset, to); }
    Async<> write(uint64_t offset, IoSlice from) { return file.write(offset, from, {}); }
  };

  Executor& executor_;
  std::unique_ptr<block::Node> file_;
  OpenOptions options_;
  block::Limits limits_;
  Payload payload_;
  crypto::LuksVolume volume_;
  std::unique_ptr<crypto::SectorCipher> cipher_;
  block::WholeSectors sectors_;
};

}  // namespace calf::luks
