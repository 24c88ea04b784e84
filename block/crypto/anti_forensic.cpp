#include "block/crypto/anti_forensic.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "block/base/endian.h"

namespace calf::crypto {
namespace {

// Replaces each piece of a digest's size by the digest of its number and itself.
Result<void> diffuse(Hash hash, std::span<uint8_t> block) {
  const size_t piece = digest_size(hash);
  SecretBytes input(sizeof(be32) + piece);
  for (size_t at = 0; at < block.size(); at += piece) {
    const size_t size = std::min(piece, block.size() - at);
    be32 number = static_cast<uint32_t>(at / piece);
    std::memcpy(input.data(), &number, sizeof number);
    std::memcpy(input.data() + sizeof number, block.data() + at, size);
    TRY(SecretBytes out, digest(hash, input.span().first(sizeof number + size)));
    std::memcpy(block.data() + at, out.data(), size);
  }
  return {};
}

void add(std::span<uint8_t> to, std::span<const uint8_t> from) {
  for (size_t i = 0; i < to.size(); ++i)
    to[i] ^= from[i];
}

}  // namespace

Result<SecretBytes> af_split(Hash hash, std::span<const uint8_t> key, uint32_t stripes) {
  assert(stripes != 0);
  SecretBytes material(key.size() * stripes);
  SecretBytes sum(key.size());
  const size_t last = key.size() * (stripes - 1);
  TRY_VOID(fill_random(material.span().first(last)));
  for (size_t at = 0; at < last; at += key.size()) {
    add(sum.span(), material.span().subspan(at, key.size()));
    TRY_VOID(diffuse(hash, sum.span()));
  }
  add(sum.span(), key);
  std::memcpy(material.data() + last, sum.data(), sum.size());
  return material;
}

Result<SecretBytes> af_merge(Hash hash, std::span<const uint8_t> material, size_t key_size,
                             uint32_t stripes) {
  assert(stripes != 0 && material.size() == key_size * stripes);
  SecretBytes sum(key_size);
  for (uint32_t i = 0; i + 1 < stripes; ++i) {
    add(sum.span(), material.subspan(i * key_size, key_size));
    TRY_VOID(diffuse(hash, sum.span()));
  }
  add(sum.span(), material.last(key_size));
  return sum;
}

}  // namespace calf::crypto
