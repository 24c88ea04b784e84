#include "block/crypto/hash.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <time.h>

#include <algorithm>
#include <climits>
#include <memory>

namespace calf::crypto {
namespace {

struct Known {
  Hash hash;
  const char* name;
  const char* openssl_name;
  size_t digest_size;
};
constexpr Known kKnown[] = {
    {Hash::kMd5, "md5", "MD5", 16},
    {Hash::kSha1, "sha1", "SHA1", 20},
    {Hash::kSha224, "sha224", "SHA224", 28},
    {Hash::kSha256, "sha256", "SHA256", 32},
    {Hash::kSha384, "sha384", "SHA384", 48},
    {Hash::kSha512, "sha512", "SHA512", 64},
    {Hash::kRipemd160, "ripemd160", "RIPEMD160", 20},
};

const Known& known(Hash hash) {
  return kKnown[static_cast<size_t>(hash)];
}

struct FreeMd {
  void operator()(EVP_MD* md) const { EVP_MD_free(md); }
};
using Md = std::unique_ptr<EVP_MD, FreeMd>;

Result<Md> fetch(Hash hash) {
  Md md(EVP_MD_fetch(nullptr, known(hash).openssl_name, nullptr));
  if (!md) {
    return make_error(ErrorKind::kUnsupported,
                      "Hash algorithm '{}' is not supported by this OpenSSL library",
                      to_string(hash));
  }
  return md;
}

uint64_t thread_nanoseconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

const char* to_string(Hash hash) {
  return known(hash).name;
}

std::optional<Hash> parse_hash(std::string_view name) {
  for (const Known& k : kKnown) {
    if (name == k.name) return k.hash;
  }
  return std::nullopt;
}

size_t digest_size(Hash hash) {
  return known(hash).digest_size;
}

Result<SecretBytes> digest(Hash hash, std::span<const uint8_t> data) {
  TRY(Md md, fetch(hash));
  SecretBytes out(digest_size(hash));
  if (EVP_Digest(data.data(), data.size(), out.data(), nullptr, md.get(), nullptr) != 1) {
    return make_error(ErrorKind::kResource, "Could not compute a {} digest", to_string(hash));
  }
  return out;
}

Result<void> pbkdf2(Hash hash, std::span<const uint8_t> password, std::span<const uint8_t> salt,
                    uint64_t iterations, std::span<uint8_t> out) {
  if (iterations == 0 || iterations > INT_MAX || password.size() > INT_MAX) {
    return make_error(ErrorKind::kInvalid, "Key derivation with {} iterations is not possible",
                      iterations);
  }
  TRY(Md md, fetch(hash));
  // An empty password has an address all the same.
  const char* text = password.empty() ? "" : reinterpret_cast<const char*>(password.data());
  if (PKCS5_PBKDF2_HMAC(text, static_cast<int>(password.size()), salt.data(),
                        static_cast<int>(salt.size()), static_cast<int>(iterations), md.get(),
                        static_cast<int>(out.size()), out.data()) != 1) {
    return make_error(ErrorKind::kResource, "Key derivation with {} failed", to_string(hash));
  }
  return {};
}

Result<uint64_t> pbkdf2_iterations(Hash hash, size_t out_size, uint64_t milliseconds) {
  // As long as is asked for, up to a twentieth of a second.
  const uint64_t enough = std::clamp<uint64_t>(milliseconds, 1, 50) * 1'000'000;
  const uint8_t password[16] = {};
  const uint8_t salt[32] = {};
  SecretBytes out(out_size);
  for (uint64_t iterations = 1 << 12;; iterations *= 2) {
    const uint64_t begin = thread_nanoseconds();
    TRY_VOID(pbkdf2(hash, password, salt, iterations, out.span()));
    const uint64_t taken = thread_nanoseconds() - begin;
    if (taken >= enough || iterations >= (uint64_t{1} << 28)) {
      double per_millisecond =
          static_cast<double>(iterations) * 1e6 / static_cast<double>(taken == 0 ? 1 : taken);
      return static_cast<uint64_t>(per_millisecond * static_cast<double>(milliseconds));
    }
  }
}

Result<void> fill_random(std::span<uint8_t> bytes) {
  if (RAND_priv_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) {
    return make_error(ErrorKind::kResource, "Could not get random bytes");
  }
  return {};
}

}  // namespace calf::crypto
