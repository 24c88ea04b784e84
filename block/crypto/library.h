// Libgcrypt, as block/crypto/ uses it: keys lie in ordinary memory, which SecretBytes and the
// library wipe.
#pragma once

#include <gcrypt.h>

#include <cstdint>
#include <memory>
#include <span>

#include "block/base/result.h"

namespace calf::crypto {

// Before any other function of the library. Any thread.
void make_library_ready();

struct CloseCipher {
  void operator()(gcry_cipher_hd_t cipher) const { gcry_cipher_close(cipher); }
};
// A key and where its mode stands; for one thread at a time.
using CipherHandle = std::unique_ptr<std::remove_pointer_t<gcry_cipher_hd_t>, CloseCipher>;

// `algorithm`: GCRY_CIPHER_*, `mode`: GCRY_CIPHER_MODE_*; in XTS mode both keys, one behind the
// other.
Result<CipherHandle> open_cipher(int algorithm, int mode, std::span<const uint8_t> key);

}  // namespace calf::crypto
