#include "block/crypto/hash.h"

#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "block/crypto/library.h"

namespace calf::crypto {
namespace {

struct Known {
  Hash hash;
  const char* name;
  int id;
  size_t digest_size;
};
constexpr Known kKnown[] = {
    {Hash::kMd5, "md5", GCRY_MD_MD5, 16},
    {Hash::kSha1, "sha1", GCRY_MD_SHA1, 20},
    {Hash::kSha224, "sha224", GCRY_MD_SHA224, 28},
    {Hash::kSha256, "sha256", GCRY_MD_SHA256, 32},
    {Hash::kSha384, "sha384", GCRY_MD_SHA384, 48},
    {Hash::kSha512, "sha512", GCRY_MD_SHA512, 64},
    {Hash::kRipemd160, "ripemd160", GCRY_MD_RMD160, 20},
};

const Known& known(Hash hash) {
  return kKnown[static_cast<size_t>(hash)];
}

// The library's number of the hash. It leaves some out where the host is told to use approved ones
// only.
Result<int> find(Hash hash) {
  make_library_ready();
  if (gcry_md_test_algo(known(hash).id) != 0) {
    return make_error(ErrorKind::kUnsupported,
                      "Hash algorithm '{}' is not supported by libgcrypt here", to_string(hash));
  }
  return known(hash).id;
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
  TRY(const int id, find(hash));
  SecretBytes out(digest_size(hash));
  gcry_md_hash_buffer(id, out.data(), data.data(), data.size());
  return out;
}

Result<void> pbkdf2(Hash hash, std::span<const uint8_t> password, std::span<const uint8_t> salt,
                    uint64_t iterations, std::span<uint8_t> out) {
  if (iterations == 0 || iterations > INT_MAX || password.size() > INT_MAX) {
    return make_error(ErrorKind::kInvalid, "Key derivation with {} iterations is not possible",
                      iterations);
  }
  TRY(const int id, find(hash));
  // An empty password has an address all the same.
  const void* text = password.empty() ? "" : static_cast<const void*>(password.data());
  const gcry_error_t failed =
      gcry_kdf_derive(text, password.size(), GCRY_KDF_PBKDF2, id, salt.data(), salt.size(),
                      iterations, out.size(), out.data());
  if (failed != 0) {
    return make_error(ErrorKind::kResource, "Key derivation with {} failed: {}", to_string(hash),
                      gcry_strerror(failed));
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
  while (!bytes.empty()) {
    const ssize_t n = ::getrandom(bytes.data(), bytes.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno(errno, "Could not get random bytes");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

}  // namespace calf::crypto
