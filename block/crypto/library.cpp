#include "block/crypto/library.h"

namespace calf::crypto {

void make_library_ready() {
  // The library wants to be asked for its version before threads use it. It has nothing to say that
  // could be acted on here: what it cannot do, the call that wants it tells.
  static const bool ready = [] {
    gcry_check_version(nullptr);
    gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
    gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    return true;
  }();
  static_cast<void>(ready);
}

Result<CipherHandle> open_cipher(int algorithm, int mode, std::span<const uint8_t> key) {
  make_library_ready();
  gcry_cipher_hd_t opened = nullptr;
  gcry_error_t failed = gcry_cipher_open(&opened, algorithm, mode, 0);
  CipherHandle cipher(opened);
  if (failed == 0) failed = gcry_cipher_setkey(cipher.get(), key.data(), key.size());
  if (failed != 0) {
    return make_error(ErrorKind::kUnsupported, "libgcrypt refuses the cipher {}: {}",
                      gcry_cipher_algo_name(algorithm), gcry_strerror(failed));
  }
  return cipher;
}

}  // namespace calf::crypto
