// What an encrypted image has besides: the LUKS header in clusters of its own, found through a
// header extension, and requests in whole sectors.
//
//     method 1   AES-128-CBC, the passphrase is the key (deprecated: no check of the passphrase)
//     method 2   LUKS1: crypto/luks_header.h; the payload is all data clusters of the file
//
// Compressed clusters are never encrypted: such an image has none, or stores them as they are.
// Spec: QEMU docs/interop/qcow2, "Full disk encryption header pointer", "Data encryption".
#pragma once

#include <optional>

#include "block/crypto/luks_keys.h"
#include "block/qcow2/header.h"
#include "block/qcow2/image.h"
#include "block/whole_sectors.h"

namespace calf::qcow2 {

class HostFile;

// Where the LUKS header stands, as the extension says: aligned, inside the file. Nothing for other
// images; an error if the header contradicts itself.
Result<std::optional<ByteRange>> encryption_header_place(const Header& header, uint64_t file_size);

// The bytes of that extension.
Extension encryption_extension(ByteRange place);

// The clusters of the LUKS header, as crypto/ sees them.
class LuksClusters final : public crypto::LuksStore {
 public:
  LuksClusters(HostFile& file, ByteRange place) : file_(file), place_(place) {}
  Async<> read(uint64_t offset, std::span<uint8_t> bytes) override;
  Async<> write(uint64_t offset, std::span<const uint8_t> bytes) override;
  Async<> flush() override;

 private:
  Result<void> check(uint64_t offset, uint64_t length) const;
  HostFile& file_;
  ByteRange place_;
};

// The way of requests into an encrypted image.
class EncryptedGuest final : public block::WholeSectors::Disk {
 public:
  EncryptedGuest(Executor& executor, Image::State& state)
      : state_(state), sectors_(executor, *this) {}
  block::WholeSectors& sectors() { return sectors_; }

  Async<> read_sectors(uint64_t offset, IoSlice to) override;
  Async<> write_sectors(uint64_t offset, IoSlice from) override;
  Async<> zero_sectors(ByteRange range, block::ZeroFlags flags) override;

 private:
  Image::State& state_;
  block::WholeSectors sectors_;
};

// Reads the LUKS header, if there is one, and takes the key with the passphrase of the options,
// unless data is left alone (info_only).
Async<> open_encryption(Image::State& state);

Async<> change_encryption_keys(Image::State& state, const crypto::LuksKeyChange& change);

// The cipher of method 1.
Result<std::unique_ptr<crypto::SectorCipher>> legacy_cipher(const crypto::SecretBytes& passphrase);

}  // namespace calf::qcow2
