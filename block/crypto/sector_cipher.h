// SectorCipher: encrypts and decrypts whole sectors of 512 bytes, each with the initialisation
// vector of its number, so that any sector can be read or written alone. One key for its life.
//
// The ciphers are libgcrypt's, with the processor's instructions where there are some. XTS with
// 192-bit keys, which it does not have, is put together from blocks here (IEEE 1619, without
// ciphertext stealing: sectors are whole).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "block/base/mutex.h"
#include "block/base/result.h"
#include "block/crypto/cipher_spec.h"
#include "block/crypto/secret_bytes.h"

namespace calf::crypto {

constexpr uint64_t kSectorSize = 512;

class SectorCipher {
 public:
  // `key` has key_size(spec) bytes; a copy is kept until the object goes.
  static Result<std::unique_ptr<SectorCipher>> create(const CipherSpec& spec,
                                                      std::span<const uint8_t> key);
  ~SectorCipher();

  // In place, any thread. `data` is whole sectors, but the last one may be shorter (a multiple of
  // 16).
  Result<void> encrypt(uint64_t first_sector, std::span<uint8_t> data);
  Result<void> decrypt(uint64_t first_sector, std::span<uint8_t> data);

 private:
  class Worker;
  SectorCipher(const CipherSpec& spec, std::span<const uint8_t> key);
  Result<void> run(uint64_t first_sector, std::span<uint8_t> data, bool encrypting);
  Result<std::unique_ptr<Worker>> take_worker();

  CipherSpec spec_;
  SecretBytes key_;
  Mutex mutex_;
  // Those that nobody uses now: as many as threads ever met here.
  std::vector<std::unique_ptr<Worker>> idle_ CALF_GUARDED_BY(mutex_);
};

}  // namespace calf::crypto
