// Hashes and the key derivation made of them (PBKDF2, RFC 8018), by libgcrypt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "block/base/result.h"
#include "block/crypto/secret_bytes.h"

namespace calf::crypto {

enum class Hash : uint8_t { kMd5, kSha1, kSha224, kSha256, kSha384, kSha512, kRipemd160 };

// "sha256": the words of LUKS headers and of qemu-img.
const char* to_string(Hash hash);
std::optional<Hash> parse_hash(std::string_view name);
size_t digest_size(Hash hash);

// kUnsupported if the library lacks the hash.
Result<SecretBytes> digest(Hash hash, std::span<const uint8_t> data);

// Fills `out`. Takes as long as `iterations` says: call it on the offload pool.
Result<void> pbkdf2(Hash hash, std::span<const uint8_t> password, std::span<const uint8_t> salt,
                    uint64_t iterations, std::span<uint8_t> out);

// How many iterations for `out_size` bytes take `milliseconds` of processor time here, as measured
// in about a tenth of a second.
Result<uint64_t> pbkdf2_iterations(Hash hash, size_t out_size, uint64_t milliseconds);

// Bytes that nobody can guess, for keys and salts.
Result<void> fill_random(std::span<uint8_t> bytes);

}  // namespace calf::crypto
