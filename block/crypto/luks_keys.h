// The key slots of a LUKS1 volume at work: making a volume, unlocking it, giving it further
// passphrases and taking them away.
//
//     passphrase ──PBKDF2──> slot key ──decrypts──> key material ──merge──> volume key
//                                                                 digest says if it is the right
//                                                                 one
//
// Power cuts: a slot is switched on only when its key material is durable, and switched off before
// that is wiped. Where an active slot is written over, the volume key first gets a place in a spare
// slot, so that at every moment a passphrase (the old or the new one) opens the volume.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "block/crypto/luks_header.h"
#include "block/crypto/secret_bytes.h"
#include "block/crypto/sector_cipher.h"
#include "block/io/executor.h"

namespace calf::crypto {

// The bytes from the header's begin to the payload, wherever they are kept.
class LuksStore {
 public:
  virtual ~LuksStore() = default;
  // `bytes` outlive the await. Errors for places outside.
  virtual Async<> read(uint64_t offset, std::span<uint8_t> bytes) = 0;
  virtual Async<> write(uint64_t offset, std::span<const uint8_t> bytes) = 0;
  virtual Async<> flush() = 0;
};

// How a new volume is made.
struct LuksFormat {
  CipherSpec cipher;
  Hash hash = Hash::kSha256;
  // Milliseconds that each key derivation should take on this machine.
  uint64_t iter_time = 2000;
};

// Sets essiv's hash if it has none, and checks that this build can do it.
Result<LuksFormat> complete(LuksFormat format);

struct LuksVolume {
  LuksHeader header;
  SecretBytes key;
};

Async<LuksHeader> read_luks_header(LuksStore& store);
// Writes header and the first slot; nothing of the payload. `format` is complete. The store's
// content up to the payload was zero.
Async<LuksVolume> format_luks(Executor& executor, LuksStore& store, const LuksFormat& format,
                              const SecretBytes& passphrase);
// The volume's key. Tries one active slot after the other, each of which takes its time.
Async<SecretBytes> unlock_luks(Executor& executor, LuksStore& store, const LuksHeader& header,
                               const SecretBytes& passphrase);

// A change of key slots, as `amend` has it (contract section 4.2).
struct LuksKeyChange {
  bool activate = true;
  std::optional<uint64_t> slot;
  std::optional<SecretBytes> old_passphrase;
  std::optional<SecretBytes> new_passphrase;
  std::optional<uint64_t> iter_time;
  // Overwrites used slots, and erases the last one.
  bool force = false;
};

// `volume` follows what is in the store. `change` outlives the await.
Async<> change_luks_keys(Executor& executor, LuksStore& store, LuksVolume& volume,
                         const LuksKeyChange& change);

}  // namespace calf::crypto
