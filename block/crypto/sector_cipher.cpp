#include "block/crypto/sector_cipher.h"

#include <array>
#include <cassert>
#include <cstring>

#include "block/base/endian.h"
#include "block/crypto/library.h"

namespace calf::crypto {
namespace {

constexpr size_t kBlock = 16;
using Iv = std::array<uint8_t, kBlock>;

// Those that check_supported() lets through.
int library_algorithm(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kAes128:
      return GCRY_CIPHER_AES128;
    case Algorithm::kAes192:
      return GCRY_CIPHER_AES192;
    case Algorithm::kAes256:
      return GCRY_CIPHER_AES256;
    case Algorithm::kSerpent128:
      return GCRY_CIPHER_SERPENT128;
    case Algorithm::kSerpent192:
      return GCRY_CIPHER_SERPENT192;
    case Algorithm::kSerpent256:
      return GCRY_CIPHER_SERPENT256;
    case Algorithm::kTwofish128:
      return GCRY_CIPHER_TWOFISH128;
    case Algorithm::kTwofish256:
      return GCRY_CIPHER_TWOFISH;
    case Algorithm::kCast5:
    case Algorithm::kTwofish192:
      break;
  }
  return GCRY_CIPHER_NONE;
}

int library_mode(Mode mode) {
  switch (mode) {
    case Mode::kEcb:
      return GCRY_CIPHER_MODE_ECB;
    case Mode::kCbc:
      return GCRY_CIPHER_MODE_CBC;
    case Mode::kXts:
      return GCRY_CIPHER_MODE_XTS;
    case Mode::kCtr:
      return GCRY_CIPHER_MODE_CTR;
  }
  return GCRY_CIPHER_MODE_NONE;
}

// In place.
bool apply(const CipherHandle& cipher, std::span<uint8_t> data, bool encrypting) {
  auto* run = encrypting ? gcry_cipher_encrypt : gcry_cipher_decrypt;
  return run(cipher.get(), data.data(), data.size(), nullptr, 0) == 0;
}

// Multiplies by x in XTS's field: the next block's tweak.
void double_tweak(Iv& tweak) {
  unsigned carry = 0;
  for (uint8_t& byte : tweak) {
    unsigned next = byte >> 7;
    byte = static_cast<uint8_t>(byte << 1 | carry);
    carry = next;
  }
  if (carry != 0) tweak[0] ^= 0x87;
}

}  // namespace

// One thread's ciphers.
class SectorCipher::Worker {
 public:
  Result<void> init(const CipherSpec& spec, std::span<const uint8_t> key);
  Result<void> run(uint64_t sector, std::span<uint8_t> data, bool encrypting);

 private:
  bool make_iv(uint64_t sector, Iv& iv);
  bool begin_sector(const Iv& iv);
  bool run_own_xts(Iv tweak, std::span<uint8_t> data, bool encrypting);

  CipherSpec spec_;
  CipherHandle cipher_;
  // Of the IV generator essiv.
  CipherHandle essiv_;
  // The second key of our own XTS.
  CipherHandle tweak_;
};

Result<void> SectorCipher::Worker::init(const CipherSpec& spec, std::span<const uint8_t> key) {
  spec_ = spec;
  const int algorithm = library_algorithm(spec.algorithm);
  const size_t plain = plain_key_size(spec.algorithm);
  if (spec.mode == Mode::kXts && plain == 24) {
    TRY(cipher_, open_cipher(algorithm, GCRY_CIPHER_MODE_ECB, key.first(plain)));
    TRY(tweak_, open_cipher(algorithm, GCRY_CIPHER_MODE_ECB, key.subspan(plain)));
  } else {
    TRY(cipher_, open_cipher(algorithm, library_mode(spec.mode), key));
  }
  if (spec.iv == IvGenerator::kEssiv) {
    TRY(SecretBytes salt, digest(*spec.iv_hash, key));
    // check_supported() has looked.
    const Algorithm essiv = *find_algorithm(family(spec.algorithm), salt.size());
    TRY(essiv_, open_cipher(library_algorithm(essiv), GCRY_CIPHER_MODE_ECB, salt.span()));
  }
  return {};
}

bool SectorCipher::Worker::make_iv(uint64_t sector, Iv& iv) {
  iv = {};
  le64 number = spec_.iv == IvGenerator::kPlain ? sector & UINT32_MAX : sector;
  std::memcpy(iv.data(), &number, sizeof number);
  return spec_.iv != IvGenerator::kEssiv || apply(essiv_, iv, true);
}

bool SectorCipher::Worker::begin_sector(const Iv& iv) {
  if (spec_.mode == Mode::kEcb) return true;
  auto* set = spec_.mode == Mode::kCtr ? gcry_cipher_setctr : gcry_cipher_setiv;
  return set(cipher_.get(), iv.data(), iv.size()) == 0;
}

bool SectorCipher::Worker::run_own_xts(Iv tweak, std::span<uint8_t> data, bool encrypting) {
  if (!apply(tweak_, tweak, true)) return false;
  std::array<uint8_t, kSectorSize> tweaks;
  for (size_t i = 0; i < data.size(); i += kBlock) {
    std::memcpy(tweaks.data() + i, tweak.data(), kBlock);
    double_tweak(tweak);
  }
  for (size_t i = 0; i < data.size(); ++i)
    data[i] ^= tweaks[i];
  if (!apply(cipher_, data, encrypting)) return false;
  for (size_t i = 0; i < data.size(); ++i)
    data[i] ^= tweaks[i];
  return true;
}

Result<void> SectorCipher::Worker::run(uint64_t sector, std::span<uint8_t> data, bool encrypting) {
  for (; !data.empty(); ++sector) {
    std::span<uint8_t> part = data.first(std::min<size_t>(data.size(), kSectorSize));
    data = data.subspan(part.size());
    Iv iv;
    bool done = make_iv(sector, iv);
    if (done && tweak_) {
      done = run_own_xts(iv, part, encrypting);
    } else if (done) {
      done = begin_sector(iv) && apply(cipher_, part, encrypting);
    }
    if (!done) return Error(ErrorKind::kResource, "The cipher library failed");
  }
  return {};
}

SectorCipher::SectorCipher(const CipherSpec& spec, std::span<const uint8_t> key)
    : spec_(spec), key_(SecretBytes::copy_of(key)) {}
SectorCipher::~SectorCipher() = default;

Result<std::unique_ptr<SectorCipher>> SectorCipher::create(const CipherSpec& spec,
                                                           std::span<const uint8_t> key) {
  TRY_VOID(check_supported(spec));
  assert(key.size() == key_size(spec));
  std::unique_ptr<SectorCipher> cipher(new SectorCipher(spec, key));
  TRY(std::unique_ptr<Worker> worker, cipher->take_worker());
  MutexLock lock(cipher->mutex_);
  cipher->idle_.push_back(std::move(worker));
  return cipher;
}

Result<std::unique_ptr<SectorCipher::Worker>> SectorCipher::take_worker() {
  {
    MutexLock lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Worker> worker = std::move(idle_.back());
      idle_.pop_back();
      return worker;
    }
  }
  auto worker = std::make_unique<Worker>();
  TRY_VOID(worker->init(spec_, key_.span()));
  return worker;
}

Result<void> SectorCipher::run(uint64_t first_sector, std::span<uint8_t> data, bool encrypting) {
  assert(data.size() % kBlock == 0);
  TRY(std::unique_ptr<Worker> worker, take_worker());
  Result<void> done = worker->run(first_sector, data, encrypting);
  MutexLock lock(mutex_);
  idle_.push_back(std::move(worker));
  return done;
}

Result<void> SectorCipher::encrypt(uint64_t first_sector, std::span<uint8_t> data) {
  return run(first_sector, data, true);
}
Result<void> SectorCipher::decrypt(uint64_t first_sector, std::span<uint8_t> data) {
  return run(first_sector, data, false);
}

}  // namespace calf::crypto
