// Secrets as --object defines them.
#include "block/crypto/secret_store.h"

#include <gtest/gtest.h>

namespace calf::crypto {
namespace {

SecretDefinition of(std::string id, std::string data) {
  SecretDefinition secret;
  secret.id = std::move(id);
  secret.data = std::move(data);
  return secret;
}

TEST(SecretStore, GivesWhatWasDefined) {
  SecretStore store;
  ASSERT_TRUE(store.define(of("a", "letmein")).ok());
  EXPECT_EQ(store.passphrase("a")->text(), "letmein");
  EXPECT_EQ(store.passphrase("b").error().message(), "No secret with id 'b'");
  EXPECT_FALSE(store.define(of("a", "again")).ok());
}

TEST(SecretStore, DecodesBase64) {
  SecretStore store;
  SecretDefinition secret = of("a", "bGV0\nbWVpbg==");
  secret.base64 = true;
  ASSERT_TRUE(store.define(secret).ok());
  EXPECT_EQ(store.passphrase("a")->text(), "letmein");
  for (const char* bad : {"a", "b*V0", "bGV0bWVpbg==x", "bGV0b"}) {
    SecretDefinition wrong = of(bad, bad);
    wrong.base64 = true;
    EXPECT_FALSE(store.define(wrong).ok()) << bad;
  }
}

// echo -n letmein | openssl enc -aes-256-cbc -K 30…(32 times) -iv 30…(16 times) -base64
TEST(SecretStore, UnwrapsWithAnotherSecret) {
  SecretStore store;
  ASSERT_TRUE(store.define(of("master", std::string(32, '0'))).ok());
  SecretDefinition secret = of("a", "JR+HOyRh+zqZIHEYNa1gdg==");
  secret.base64 = true;
  secret.key_id = "master";
  secret.iv = "MDAwMDAwMDAwMDAwMDAwMA==";
  ASSERT_TRUE(store.define(secret).ok());
  EXPECT_EQ(store.passphrase("a")->text(), "letmein");
  secret.id = "b";
  secret.iv = "MDAw";
  EXPECT_FALSE(store.define(secret).ok());
  secret.iv.reset();
  EXPECT_FALSE(store.define(secret).ok());
}

TEST(SecretStore, OnlyTextIsAPassphrase) {
  SecretStore store;
  ASSERT_TRUE(store.define(of("a", "\xff\xfe")).ok());
  EXPECT_EQ(store.passphrase("a").error().message(), "Data from secret a is not valid UTF-8");
}

}  // namespace
}  // namespace calf::crypto
