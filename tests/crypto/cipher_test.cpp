// Known answers for ciphers, key derivation and the anti-forensic splitter.
#include <gtest/gtest.h>

#include <vector>

#include "block/crypto/anti_forensic.h"
#include "block/crypto/hash.h"
#include "block/crypto/sector_cipher.h"

namespace calf::crypto {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes from_hex(std::string_view text) {
  Bytes out;
  for (size_t i = 0; i + 1 < text.size(); i += 2)
    out.push_back(static_cast<uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  return out;
}

// 00 01 … ff, over and over.
Bytes counting(size_t size) {
  Bytes out(size);
  for (size_t i = 0; i < size; ++i)
    out[i] = static_cast<uint8_t>(i);
  return out;
}

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

TEST(SectorCipher, XtsGivesTheAnswersOfItsStandard) {
  struct Vector {
    Algorithm algorithm;
    const char* key;
    uint64_t sector;
    const char* begin;
  };
  // IEEE 1619-2007, vectors 4 and 10.
  const Vector vectors[] = {
      {Algorithm::kAes128, "2718281828459045235360287471352631415926535897932384626433832795", 0,
       "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c"},
      {Algorithm::kAes256,
       "2718281828459045235360287471352662497757247093699959574966967627"
       "3141592653589793238462643383279502884197169399375105820974944592",
       0xff, "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"},
  };
  for (const Vector& vector : vectors) {
    CipherSpec spec{vector.algorithm, Mode::kXts, IvGenerator::kPlain64, std::nullopt};
    auto cipher = SectorCipher::create(spec, from_hex(vector.key));
    ASSERT_TRUE(cipher.ok());
    Bytes data = counting(512);
    ASSERT_TRUE((*cipher)->encrypt(vector.sector, data).ok());
    EXPECT_EQ(Bytes(data.begin(), data.begin() + 32), from_hex(vector.begin));
    ASSERT_TRUE((*cipher)->decrypt(vector.sector, data).ok());
    EXPECT_EQ(data, counting(512));
  }
}

TEST(SectorCipher, EveryCombinationReadsWhatItWrote) {
  for (Algorithm algorithm : {Algorithm::kAes128, Algorithm::kAes192, Algorithm::kAes256}) {
    for (Mode mode : {Mode::kEcb, Mode::kCbc, Mode::kXts, Mode::kCtr}) {
      for (IvGenerator iv : {IvGenerator::kPlain, IvGenerator::kPlain64, IvGenerator::kEssiv}) {
        CipherSpec spec{algorithm, mode, iv, Hash::kSha256};
        auto cipher = SectorCipher::create(spec, counting(key_size(spec)));
        ASSERT_TRUE(cipher.ok());
        // The last sector is cut short, as in key material.
        const Bytes plain = counting(3 * 512 + 256);
        Bytes data = plain;
        ASSERT_TRUE((*cipher)->encrypt(7, data).ok());
        EXPECT_NE(data, plain);
        // Sectors stand alone: the second one by itself is the same.
        Bytes second(plain.begin() + 512, plain.begin() + 1024);
        ASSERT_TRUE((*cipher)->encrypt(8, second).ok());
        EXPECT_TRUE(std::equal(second.begin(), second.end(), data.begin() + 512));
        ASSERT_TRUE((*cipher)->decrypt(7, data).ok());
        EXPECT_EQ(data, plain);
      }
    }
  }
}

TEST(SectorCipher, WhatCannotBeUsedIsRefusedByName) {
  for (Algorithm algorithm : {Algorithm::kCast5, Algorithm::kTwofish192}) {
    CipherSpec spec{algorithm, Mode::kCbc, IvGenerator::kPlain64, std::nullopt};
    Result<void> checked = check_supported(spec);
    ASSERT_FALSE(checked.ok());
    EXPECT_EQ(checked.error().kind(), ErrorKind::kUnsupported);
    EXPECT_NE(checked.error().message().find(to_string(algorithm)), std::string::npos);
  }
  // The hash is the key of a second cipher of the same family.
  CipherSpec spec{Algorithm::kTwofish256, Mode::kCbc, IvGenerator::kEssiv, Hash::kSha256};
  EXPECT_TRUE(check_supported(spec).ok());
  spec.iv_hash = Hash::kSha1;
  EXPECT_FALSE(check_supported(spec).ok());
}

TEST(SectorCipher, AllThatCanBeUsedDecryptWhatTheyEncrypted) {
  for (Algorithm algorithm :
       {Algorithm::kAes128, Algorithm::kAes192, Algorithm::kAes256, Algorithm::kSerpent128,
        Algorithm::kSerpent192, Algorithm::kSerpent256, Algorithm::kTwofish128,
        Algorithm::kTwofish256}) {
    for (Mode mode : {Mode::kEcb, Mode::kCbc, Mode::kXts, Mode::kCtr}) {
      CipherSpec spec{algorithm, mode, IvGenerator::kPlain64, std::nullopt};
      SecretBytes key(key_size(spec));
      for (size_t i = 0; i < key.size(); ++i)
        key.data()[i] = static_cast<uint8_t>(i);
      auto cipher = SectorCipher::create(spec, key.span());
      ASSERT_TRUE(cipher.ok()) << to_string(algorithm) << to_string(mode);
      const Bytes plain(3 * kSectorSize + 48, 'p');
      Bytes data = plain;
      ASSERT_TRUE((*cipher)->encrypt(7, data).ok());
      EXPECT_NE(data, plain);
      // A sector in the middle by itself.
      Bytes second(data.begin() + kSectorSize, data.begin() + 2 * kSectorSize);
      ASSERT_TRUE((*cipher)->decrypt(8, second).ok());
      EXPECT_EQ(second, Bytes(kSectorSize, 'p'));
      ASSERT_TRUE((*cipher)->decrypt(7, data).ok());
      EXPECT_EQ(data, plain);
    }
  }
}

TEST(KeyDerivation, GivesTheKnownAnswers) {
  SecretBytes out(20);
  ASSERT_TRUE(pbkdf2(Hash::kSha1, bytes_of("password"), bytes_of("salt"), 4096, out.span()).ok());
  EXPECT_EQ(Bytes(out.data(), out.data() + 20),
            from_hex("4b007901b765489abead49d926f721d065a429c1"));
  SecretBytes longer(32);
  ASSERT_TRUE(
      pbkdf2(Hash::kSha256, bytes_of("password"), bytes_of("salt"), 4096, longer.span()).ok());
  EXPECT_EQ(Bytes(longer.data(), longer.data() + 32),
            from_hex("c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a"));
  EXPECT_FALSE(pbkdf2(Hash::kSha256, {}, bytes_of("salt"), 0, longer.span()).ok());
}

TEST(AntiForensic, EveryStripeIsNeeded) {
  for (Hash hash : {Hash::kSha1, Hash::kSha256, Hash::kSha512}) {
    const Bytes key = counting(48);
    auto material = af_split(hash, key, 40);
    ASSERT_TRUE(material.ok());
    ASSERT_EQ(material->size(), 48u * 40);
    auto merged = af_merge(hash, material->span(), 48, 40);
    ASSERT_TRUE(merged.ok());
    EXPECT_EQ(Bytes(merged->data(), merged->data() + 48), key);
    material->data()[48 * 17] ^= 1;
    auto damaged = af_merge(hash, material->span(), 48, 40);
    ASSERT_TRUE(damaged.ok());
    EXPECT_NE(Bytes(damaged->data(), damaged->data() + 48), key);
  }
}

}  // namespace
}  // namespace calf::crypto
