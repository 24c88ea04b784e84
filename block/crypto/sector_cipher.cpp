#include "block/crypto/sector_cipher.h"

#include <openssl/evp.h>

#include <array>
#include <cassert>
#include <cstring>

#include "block/base/endian.h"

namespace calf::crypto {
namespace {

constexpr size_t kBlock = 16;
using Iv = std::array<uint8_t, kBlock>;

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;
struct FreeCipher {
  void operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }
};

Error openssl_failed() {
  return Error(ErrorKind::kResource, "The cipher library failed");
}

// `mode` as in OpenSSL's names: "AES-256-CBC".
Result<Context> make_context(size_t key_bytes, const char* mode, std::span<const uint8_t> key,
                             bool encrypting) {
  const std::string name = fmt::format("AES-{}-{}", key_bytes * 8, mode);
  std::unique_ptr<EVP_CIPHER, FreeCipher> cipher(EVP_CIPHER_fetch(nullptr, name.c_str(), nullptr));
  Context context(EVP_CIPHER_CTX_new());
  if (!cipher || !context) {
    return make_error(ErrorKind::kUnsupported, "This OpenSSL library has no {}", name);
  }
  if (EVP_CipherInit_ex2(context.get(), cipher.get(), key.data(), nullptr, encrypting ? 1 : 0,
                         nullptr) != 1 ||
      EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1) {
    return openssl_failed();
  }
  return context;
}

bool update(const Context& context, const uint8_t* from, uint8_t* to, size_t size) {
  int written = 0;
  return EVP_CipherUpdate(context.get(), to, &written, from, static_cast<int>(size)) == 1 &&
         static_cast<size_t>(written) == size;
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

// One thread's cipher contexts.
class SectorCipher::Worker {
 public:
  Result<void> init(const CipherSpec& spec, std::span<const uint8_t> key);
  Result<void> run(uint64_t sector, std::span<uint8_t> data, bool encrypting);

 private:
  bool make_iv(uint64_t sector, Iv& iv);
  bool run_own_xts(Iv tweak, std::span<uint8_t> data, bool encrypting);

  CipherSpec spec_;
  Context encrypt_;
  Context decrypt_;
  // Of the IV generator essiv.
  Context essiv_;
  // The second key of our own XTS.
  Context tweak_;
};

Result<void> SectorCipher::Worker::init(const CipherSpec& spec, std::span<const uint8_t> key) {
  spec_ = spec;
  const size_t plain = plain_key_size(spec.algorithm);
  const char* mode = nullptr;
  size_t used = key.size();
  switch (spec.mode) {
    case Mode::kEcb:
      mode = "ECB";
      break;
    case Mode::kCbc:
      mode = "CBC";
      break;
    case Mode::kCtr:
      mode = "CTR";
      break;
    case Mode::kXts:
      mode = "XTS";
      if (plain != 24) break;
      mode = "ECB";
      used = plain;
      TRY(tweak_, make_context(plain, "ECB", key.subspan(plain), true));
      break;
  }
  TRY(encrypt_, make_context(plain, mode, key.first(used), true));
  TRY(decrypt_, make_context(plain, mode, key.first(used), false));
  if (spec.iv == IvGenerator::kEssiv) {
    TRY(SecretBytes salt, digest(*spec.iv_hash, key));
    TRY(essiv_, make_context(salt.size(), "ECB", salt.span(), true));
  }
  return {};
}

bool SectorCipher::Worker::make_iv(uint64_t sector, Iv& iv) {
  iv = {};
  le64 number = spec_.iv == IvGenerator::kPlain ? sector & UINT32_MAX : sector;
  std::memcpy(iv.data(), &number, sizeof number);
  return spec_.iv != IvGenerator::kEssiv || update(essiv_, iv.data(), iv.data(), iv.size());
}

bool SectorCipher::Worker::run_own_xts(Iv tweak, std::span<uint8_t> data, bool encrypting) {
  if (!update(tweak_, tweak.data(), tweak.data(), tweak.size())) return false;
  std::array<uint8_t, kSectorSize> tweaks;
  for (size_t i = 0; i < data.size(); i += kBlock) {
    std::memcpy(tweaks.data() + i, tweak.data(), kBlock);
    double_tweak(tweak);
  }
  for (size_t i = 0; i < data.size(); ++i)
    data[i] ^= tweaks[i];
  if (!update(encrypting ? encrypt_ : decrypt_, data.data(), data.data(), data.size())) {
    return false;
  }
  for (size_t i = 0; i < data.size(); ++i)
    data[i] ^= tweaks[i];
  return true;
}

Result<void> SectorCipher::Worker::run(uint64_t sector, std::span<uint8_t> data, bool encrypting) {
  const Context& context = encrypting ? encrypt_ : decrypt_;
  for (; !data.empty(); ++sector) {
    std::span<uint8_t> part = data.first(std::min<size_t>(data.size(), kSectorSize));
    data = data.subspan(part.size());
    Iv iv;
    bool done = make_iv(sector, iv);
    if (done && tweak_) {
      done = run_own_xts(iv, part, encrypting);
    } else if (done) {
      // ECB takes no vector; setting it starts the next sector in the other modes.
      const uint8_t* vector = spec_.mode == Mode::kEcb ? nullptr : iv.data();
      done = EVP_CipherInit_ex2(context.get(), nullptr, nullptr, vector, -1, nullptr) == 1 &&
             update(context, part.data(), part.data(), part.size());
    }
    if (!done) return openssl_failed();
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
