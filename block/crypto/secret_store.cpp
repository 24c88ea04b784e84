#include "block/crypto/secret_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "block/base/fd.h"
#include "block/crypto/library.h"

namespace calf::crypto {
namespace {

constexpr size_t kMaxSecret = 1 << 20;
constexpr size_t kKeyBytes = 32;
constexpr size_t kIvBytes = 16;

Result<SecretBytes> read_file(const std::string& path) {
  auto failed = [&](const char* what) {
    return make_error(ErrorKind::kIo, "Unable to read {0}: Failed to {2} file “{0}”: {1}", path,
                      std::strerror(errno), what);
  };
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return failed("open");
  SecretBytes buffer(kMaxSecret);
  size_t size = 0;
  while (size < buffer.size()) {
    ssize_t n = ::read(fd.get(), buffer.data() + size, buffer.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("read from");
    if (n == 0) return SecretBytes::copy_of(buffer.span().first(size));
    size += static_cast<size_t>(n);
  }
  return make_error(ErrorKind::kInvalid, "Unable to read {}: a secret has at most {} bytes", path,
                    kMaxSecret);
}

int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

// White space is skipped, anything else refused; padding only at the end.
Result<SecretBytes> decode_base64(std::string_view text) {
  SecretBytes out(text.size() / 4 * 3 + 3);
  size_t size = 0;
  uint32_t bits = 0;
  unsigned count = 0;
  size_t padding = 0;
  for (char c : text) {
    if (c == '\n' || c == '\r' || c == ' ' || c == '\t') continue;
    if (c == '=') {
      ++padding;
      continue;
    }
    int value = base64_value(c);
    if (value < 0 || padding != 0) {
      return make_error(ErrorKind::kInvalid,
                        "Base64 data is not valid: it contains a character that does not belong");
    }
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (++count % 4 == 0) {
      for (int shift : {16, 8, 0})
        out.data()[size++] = static_cast<uint8_t>(bits >> shift);
      bits = 0;
    }
  }
  // Two characters left over make one byte, three make two.
  const unsigned left = count % 4;
  if (left == 1) return make_error(ErrorKind::kInvalid, "Base64 data is not valid: it is cut off");
  if (left >= 2) out.data()[size++] = static_cast<uint8_t>(left == 2 ? bits >> 4 : bits >> 10);
  if (left == 3) out.data()[size++] = static_cast<uint8_t>(bits >> 2);
  return SecretBytes::copy_of(std::span<const uint8_t>(out.span()).first(size));
}

// How many bytes of PKCS#7 padding `text` ends with.
std::optional<size_t> padding_of(std::span<const uint8_t> text) {
  if (text.empty() || text.back() == 0 || text.back() > kIvBytes) return std::nullopt;
  const size_t padding = text.back();
  const auto tail = text.last(padding);
  const bool regular = std::ranges::all_of(tail, [&](uint8_t byte) { return byte == padding; });
  return regular ? std::optional<size_t>(padding) : std::nullopt;
}

Result<SecretBytes> decrypt(std::span<const uint8_t> cipher_text, std::span<const uint8_t> key,
                            std::span<const uint8_t> iv) {
  TRY(CipherHandle cipher, open_cipher(GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_CBC, key));
  SecretBytes out = SecretBytes::copy_of(cipher_text);
  // Fails for what is not whole blocks.
  const bool done = gcry_cipher_setiv(cipher.get(), iv.data(), iv.size()) == 0 &&
                    gcry_cipher_decrypt(cipher.get(), out.data(), out.size(), nullptr, 0) == 0;
  const std::optional<size_t> padding = done ? padding_of(out.span()) : std::nullopt;
  if (!padding) {
    return make_error(ErrorKind::kInvalid,
                      "The secret could not be decrypted: wrong key or damaged data");
  }
  return SecretBytes::copy_of(std::span<const uint8_t>(out.span()).first(out.size() - *padding));
}

// No overlong forms, surrogates or numbers beyond Unicode; no NUL.
bool is_utf8(std::span<const uint8_t> text) {
  for (size_t i = 0; i < text.size();) {
    const uint8_t lead = text[i++];
    unsigned more = 0;
    uint32_t code = lead;
    if (lead == 0) return false;
    if (lead < 0x80) continue;
    if (lead >= 0xc2 && lead <= 0xdf) {
      more = 1;
      code = lead & 0x1f;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      more = 2;
      code = lead & 0x0f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      more = 3;
      code = lead & 0x07;
    } else {
      return false;
    }
    for (unsigned k = 0; k < more; ++k) {
      if (i == text.size() || (text[i] & 0xc0) != 0x80) return false;
      code = code << 6 | (text[i++] & 0x3f);
    }
    if (more == 2 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff))) return false;
    if (more == 3 && (code < 0x10000 || code > 0x10ffff)) return false;
  }
  return true;
}

}  // namespace

Result<void> SecretStore::define(const SecretDefinition& d) {
  if (d.data && d.file) {
    return make_error(ErrorKind::kInvalid, "'file' and 'data' are mutually exclusive");
  }
  if (!d.data && !d.file) {
    return make_error(ErrorKind::kInvalid, "Either 'file' or 'data' must be provided");
  }
  if (secrets_.contains(d.id)) {
    return make_error(ErrorKind::kExists,
                      "attempt to add duplicate property '{}' to object (type 'container')", d.id);
  }
  SecretBytes value;
  if (d.file) {
    TRY(value, read_file(*d.file));
  } else {
    value = SecretBytes::copy_of(*d.data);
  }
  if (!d.key_id) {
    if (d.base64) {
      TRY(value, decode_base64(value.text()));
    }
    secrets_.emplace(d.id, std::move(value));
    return {};
  }

  auto key = secrets_.find(*d.key_id);
  if (key == secrets_.end()) {
    return make_error(ErrorKind::kNotFound, "No secret with id '{}'", *d.key_id);
  }
  if (key->second.size() != kKeyBytes) {
    return make_error(ErrorKind::kInvalid, "Key should be {} bytes in length", kKeyBytes);
  }
  if (!d.iv) {
    return make_error(ErrorKind::kInvalid, "IV is required to decrypt secret");
  }
  TRY(SecretBytes iv, decode_base64(*d.iv));
  if (iv.size() != kIvBytes) {
    return make_error(ErrorKind::kInvalid, "IV should be {} bytes in length not {}", kIvBytes,
                      iv.size());
  }
  if (d.base64) {
    TRY(value, decode_base64(value.text()));
  }
  TRY(value, decrypt(value.span(), key->second.span(), iv.span()));
  secrets_.emplace(d.id, std::move(value));
  return {};
}

Result<SecretBytes> SecretStore::passphrase(const std::string& id) const {
  auto it = secrets_.find(id);
  if (it == secrets_.end()) {
    return make_error(ErrorKind::kNotFound, "No secret with id '{}'", id);
  }
  if (!is_utf8(it->second.span())) {
    return make_error(ErrorKind::kInvalid, "Data from secret {} is not valid UTF-8", id);
  }
  return SecretBytes::copy_of(it->second.span());
}

PassphraseSource named_passphrase(const SecretStore* secrets, std::optional<std::string> id) {
  if (!id) return nullptr;
  static const SecretStore kNone;
  const SecretStore* store = secrets != nullptr ? secrets : &kNone;
  return [store, name = std::move(*id)] { return store->passphrase(name); };
}

}  // namespace calf::crypto
