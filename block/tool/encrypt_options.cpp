#include "block/tool/encrypt_options.h"

#include "block/tool/sizes.h"

namespace calf::img {
namespace {

constexpr std::string_view kPrefix = "encrypt.";

// Reads a word that `parse` knows into `out`, if it is given.
template <class T>
Result<void> take_word(const OptionList& list, std::string_view prefix, const char* name,
                       std::optional<T> (*parse)(std::string_view), T* out) {
  std::optional<std::string> word = list.get(std::string(prefix) + name);
  if (!word) return {};
  std::optional<T> value = parse(*word);
  if (!value) {
    return make_error(ErrorKind::kInvalid, "Parameter '{}' does not accept value '{}'", name,
                      *word);
  }
  *out = *value;
  return {};
}

// Anything that begins with "encrypt.", `except` apart.
std::optional<std::string> other_option(const OptionList& list, std::string_view except) {
  for (const auto& item : list.items()) {
    const std::string& name = item.first;
    if (name.starts_with(kPrefix) && name != "encrypt.format" && name != except) return name;
  }
  return std::nullopt;
}

}  // namespace

Result<crypto::LuksFormat> luks_format(const OptionList& list, std::string_view prefix) {
  crypto::LuksFormat format;
  TRY_VOID(
      take_word(list, prefix, "cipher-alg", crypto::parse_algorithm, &format.cipher.algorithm));
  TRY_VOID(take_word(list, prefix, "cipher-mode", crypto::parse_mode, &format.cipher.mode));
  TRY_VOID(take_word(list, prefix, "ivgen-alg", crypto::parse_iv_generator, &format.cipher.iv));
  crypto::Hash iv_hash = crypto::Hash::kSha256;
  TRY_VOID(take_word(list, prefix, "ivgen-hash-alg", crypto::parse_hash, &iv_hash));
  if (list.get(std::string(prefix) + "ivgen-hash-alg")) format.cipher.iv_hash = iv_hash;
  TRY_VOID(take_word(list, prefix, "hash-alg", crypto::parse_hash, &format.hash));
  if (auto time = list.get(std::string(prefix) + "iter-time")) {
    TRY(format.iter_time, parse_size(*time));
  }
  return format;
}

Result<crypto::PassphraseSource> key_secret(const OptionList& list, std::string_view prefix,
                                            const crypto::SecretStore& secrets) {
  std::optional<std::string> id = list.get(std::string(prefix) + "key-secret");
  if (!id) {
    return make_error(ErrorKind::kInvalid, "Parameter '{}key-secret' is required for cipher",
                      prefix);
  }
  TRY(crypto::SecretBytes there, secrets.passphrase(*id));
  (void)there;
  return crypto::named_passphrase(&secrets, *id);
}

Result<std::optional<qcow2::EncryptOptions>> qcow2_encryption(const OptionList& list,
                                                              const crypto::SecretStore& secrets) {
  std::optional<std::string> format = list.get("encrypt.format");
  const bool old_switch = list.get("encryption") == "on";
  if (format && list.get("encryption")) {
    return Error(ErrorKind::kInvalid,
                 "'encrypt.format' and its alias 'encryption' can't be used at the same time");
  }
  if (old_switch) format = "aes";
  if (!format) {
    if (other_option(list, "")) {
      return Error(ErrorKind::kInvalid, "Parameter 'encrypt.format' is missing");
    }
    return std::optional<qcow2::EncryptOptions>();
  }
  qcow2::EncryptOptions options;
  if (*format == "aes") {
    options.method = qcow2::Encryption::kAes;
    if (auto other = other_option(list, "encrypt.key-secret")) {
      return make_error(ErrorKind::kInvalid, "Parameter '{}' is unexpected", *other);
    }
  } else if (*format == "luks") {
    TRY(options.luks, luks_format(list, kPrefix));
  } else {
    return make_error(ErrorKind::kInvalid, "Parameter 'format' does not accept value '{}'",
                      *format);
  }
  TRY(options.passphrase, key_secret(list, kPrefix, secrets));
  return std::optional(std::move(options));
}

std::optional<std::pair<std::string, std::string>> key_secret_option(const OptionList& list) {
  for (const char* name : {"encrypt.key-secret", "key-secret"}) {
    if (auto id = list.get(name)) return std::pair<std::string, std::string>(name, *id);
  }
  return std::nullopt;
}

}  // namespace calf::img
