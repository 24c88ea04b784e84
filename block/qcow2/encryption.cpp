#include "block/qcow2/encryption.h"

#include <algorithm>
#include <cstring>

#include "block/qcow2/image_state.h"

namespace calf::qcow2 {
namespace {

// Eight slots of the longest key take 2 MiB.
constexpr uint64_t kMaxHeaderBytes = uint64_t{64} << 20;

Result<crypto::SecretBytes> ask_passphrase(const OpenOptions& options) {
  if (options.passphrase) return options.passphrase();
  return make_error(ErrorKind::kInvalid, "Parameter 'encrypt.key-secret' is required for cipher");
}

}  // namespace

Result<std::optional<ByteRange>> encryption_header_place(const Header& header, uint64_t file_size) {
  const Extension* extension = header.find(format::kExtEncryption);
  if (header.encryption != Encryption::kLuks) {
    if (extension == nullptr) return std::optional<ByteRange>();
    return make_error(ErrorKind::kCorrupt,
                      "CRYPTO header extension only expected with LUKS encryption method");
  }
  if (extension == nullptr) {
    return make_error(ErrorKind::kCorrupt, "Missing CRYPTO header for crypt method 2");
  }
  format::EncryptionExtension raw;
  if (extension->data.size() != sizeof raw) {
    return make_error(ErrorKind::kCorrupt, "CRYPTO header extension size {}, but expected size {}",
                      extension->data.size(), sizeof raw);
  }
  std::memcpy(&raw, extension->data.data(), sizeof raw);
  const Geometry& g = header.geometry;
  if (!g.is_cluster_aligned(raw.offset)) {
    return make_error(ErrorKind::kCorrupt,
                      "Encryption header offset '{}' is not a multiple of cluster size '{}'",
                      raw.offset.value(), g.cluster_size());
  }
  if (raw.offset == 0 || raw.length == 0 || raw.length > kMaxHeaderBytes ||
      raw.offset >= file_size || raw.length > align_up(file_size, g.cluster_size()) - raw.offset) {
    return make_error(ErrorKind::kCorrupt, "Encryption header is not inside the file");
  }
  return std::optional(ByteRange{raw.offset, raw.length});
}

Extension encryption_extension(ByteRange place) {
  format::EncryptionExtension raw{place.offset, place.length};
  auto* bytes = reinterpret_cast<const uint8_t*>(&raw);
  return {format::kExtEncryption, {bytes, bytes + sizeof raw}};
}

Result<void> LuksClusters::check(uint64_t offset, uint64_t length) const {
  if (offset <= place_.length && length <= place_.length - offset) return {};
  return make_error(ErrorKind::kCorrupt, "Request for data outside of extension header");
}

Async<> LuksClusters::read(uint64_t offset, std::span<uint8_t> bytes) {
  CO_TRY_VOID(check(offset, bytes.size()));
  co_return co_await file_.read_bytes(place_.offset + offset, bytes);
}

Async<> LuksClusters::write(uint64_t offset, std::span<const uint8_t> bytes) {
  CO_TRY_VOID(check(offset, bytes.size()));
  co_return co_await file_.write_bytes(place_.offset + offset, bytes);
}

Async<> LuksClusters::flush() {
  return file_.flush();
}

Async<> EncryptedGuest::read_sectors(uint64_t offset, IoSlice to) {
  return read_guest(state_, offset, to);
}
Async<> EncryptedGuest::write_sectors(uint64_t offset, IoSlice from) {
  return write_guest(state_, offset, from);
}
Async<> EncryptedGuest::zero_sectors(ByteRange range, block::ZeroFlags flags) {
  return zero_guest(state_, range, flags.may_unmap);
}

Result<std::unique_ptr<crypto::SectorCipher>> legacy_cipher(const crypto::SecretBytes& passphrase) {
  const crypto::CipherSpec spec{crypto::Algorithm::kAes128, crypto::Mode::kCbc,
                                crypto::IvGenerator::kPlain64, std::nullopt};
  crypto::SecretBytes key(crypto::key_size(spec));
  std::copy_n(passphrase.data(), std::min(key.size(), passphrase.size()), key.data());
  return crypto::SectorCipher::create(spec, key.span());
}

Async<> open_encryption(Image::State& state) {
  const Header& header = state.header.get();
  CO_TRY(std::optional<ByteRange> place, encryption_header_place(header, state.file.size()));
  if (header.encryption == Encryption::kNone) co_return Result<void>();
  if (place) {
    LuksClusters clusters(state.file, *place);
    state.luks.emplace();
    CO_TRY(state.luks->header, co_await crypto::read_luks_header(clusters));
  }
  // A check looks at tables only, but says so too if the image cannot be used.
  if (state.options.info_only) co_return Result<void>();
  if (!is_aligned(header.size, block::WholeSectors::kSector)) {
    co_return make_error(ErrorKind::kCorrupt,
                         "The size of an encrypted image is a multiple of 512, not {}",
                         header.size);
  }
  CO_TRY(crypto::SecretBytes passphrase, ask_passphrase(state.options));
  if (place) {
    LuksClusters clusters(state.file, *place);
    crypto::LuksVolume& volume = *state.luks;
    CO_TRY(volume.key,
           co_await crypto::unlock_luks(state.executor, clusters, volume.header, passphrase));
    CO_TRY(auto cipher, crypto::SectorCipher::create(volume.header.cipher, volume.key.span()));
    state.guest_data.set_cipher(std::move(cipher), GuestData::IvFrom::kHostOffset);
  } else {
    CO_TRY(auto cipher, legacy_cipher(passphrase));
    state.guest_data.set_cipher(std::move(cipher), GuestData::IvFrom::kGuestOffset);
  }
  state.encrypted = std::make_unique<EncryptedGuest>(state.executor, state);
  co_return Result<void>();
}

Async<> change_encryption_keys(Image::State& state, const crypto::LuksKeyChange& change) {
  CO_TRY(std::optional<ByteRange> place,
         encryption_header_place(state.header.get(), state.file.size()));
  if (!place || !state.luks || state.luks->key.empty()) {
    co_return make_error(ErrorKind::kInvalid, "Only LUKS encryption options can be amended");
  }
  LuksClusters clusters(state.file, *place);
  co_return co_await crypto::change_luks_keys(state.executor, clusters, *state.luks, change);
}

}  // namespace calf::qcow2
