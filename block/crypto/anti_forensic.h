// The anti-forensic splitter of LUKS: a key is spread over many times its size, and all of that is
// needed to get it back, so that wiping any piece of it wipes the key.
//
//     s1 … s(n-1) random,  d0 = 0,  d(i) = diffuse(d(i-1) ^ s(i)),  sn = d(n-1) ^ key
//
// LUKS1 On-Disk Format Specification, section 2.4.
#pragma once

#include <cstdint>
#include <span>

#include "block/base/result.h"
#include "block/crypto/hash.h"
#include "block/crypto/secret_bytes.h"

namespace calf::crypto {

// key.size() * stripes bytes.
Result<SecretBytes> af_split(Hash hash, std::span<const uint8_t> key, uint32_t stripes);
// The key of `key_size` bytes; `material` has key_size * stripes.
Result<SecretBytes> af_merge(Hash hash, std::span<const uint8_t> material, size_t key_size,
                             uint32_t stripes);

}  // namespace calf::crypto
