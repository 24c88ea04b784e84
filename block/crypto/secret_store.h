// The secrets that a user defines with --object secret: passphrases by id, in memory that is wiped.
//
//     data= or file=  ──>  format=raw | base64  ──>  keyid=, iv=: AES-256-CBC under another secret
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "block/base/result.h"
#include "block/crypto/secret_bytes.h"

namespace calf::crypto {

// Where the passphrase of one image comes from: asked once, when the image is opened. Null where
// the user named none.
using PassphraseSource = std::function<Result<SecretBytes>()>;

struct SecretDefinition {
  std::string id;
  std::optional<std::string> data;
  std::optional<std::string> file;
  bool base64 = false;
  std::optional<std::string> key_id;
  // Base64.
  std::optional<std::string> iv;
};

class SecretStore {
 public:
  // Loads and decodes at once. Error texts are qemu-img's.
  Result<void> define(const SecretDefinition& definition);
  // A copy; only text is a passphrase.
  Result<SecretBytes> passphrase(const std::string& id) const;

 private:
  std::map<std::string, SecretBytes, std::less<>> secrets_;
};

// The secret that the user named for an image, out of what is defined (null: nothing is).
PassphraseSource named_passphrase(const SecretStore* secrets, std::optional<std::string> id);

}  // namespace calf::crypto
