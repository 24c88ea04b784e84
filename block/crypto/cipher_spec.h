// Which cipher a volume uses, in the words of LUKS headers and of qemu-img.
//
//     aes-256        xts      plain64               none of ecb
//     algorithm      mode     IV generator, and for essiv its hash
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "block/base/result.h"
#include "block/crypto/hash.h"

namespace calf::crypto {

// What has a name. CAST5, whose blocks are of 8 bytes, and Twofish with 192-bit keys, which
// libgcrypt does not have, cannot be used.
enum class Algorithm : uint8_t {
  kAes128,
  kAes192,
  kAes256,
  kCast5,
  kSerpent128,
  kSerpent192,
  kSerpent256,
  kTwofish128,
  kTwofish192,
  kTwofish256,
};
enum class Mode : uint8_t { kEcb, kCbc, kXts, kCtr };
// How the initialisation vector of a sector comes from its number.
enum class IvGenerator : uint8_t {
  kPlain,    // 32 bits of it
  kPlain64,  // all of it
  kEssiv,    // encrypted with the hash of the key
};

struct CipherSpec {
  Algorithm algorithm = Algorithm::kAes256;
  Mode mode = Mode::kXts;
  IvGenerator iv = IvGenerator::kPlain64;
  // For kEssiv.
  std::optional<Hash> iv_hash;
};

const char* to_string(Algorithm algorithm);  // "aes-256"
const char* to_string(Mode mode);            // "xts"
const char* to_string(IvGenerator iv);       // "plain64"
std::optional<Algorithm> parse_algorithm(std::string_view name);
std::optional<Mode> parse_mode(std::string_view name);
std::optional<IvGenerator> parse_iv_generator(std::string_view name);

// The name of the family, as it stands in a LUKS header ("aes"), and the bytes of its plain key.
std::string_view family(Algorithm algorithm);
size_t plain_key_size(Algorithm algorithm);
std::optional<Algorithm> find_algorithm(std::string_view family, size_t plain_key_size);

// Bytes of the whole key: XTS has two.
size_t key_size(const CipherSpec& spec);

// Can this build encrypt so? kUnsupported, with what is missing by name, if not.
Result<void> check_supported(const CipherSpec& spec);

}  // namespace calf::crypto
