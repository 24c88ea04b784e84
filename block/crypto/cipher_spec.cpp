#include "block/crypto/cipher_spec.h"

namespace calf::crypto {
namespace {

struct Known {
  Algorithm algorithm;
  const char* name;
  std::string_view family;
  size_t key_size;
};
constexpr Known kAlgorithms[] = {
    {Algorithm::kAes128, "aes-128", "aes", 16},
    {Algorithm::kAes192, "aes-192", "aes", 24},
    {Algorithm::kAes256, "aes-256", "aes", 32},
    {Algorithm::kCast5, "cast5-128", "cast5", 16},
    {Algorithm::kSerpent128, "serpent-128", "serpent", 16},
    {Algorithm::kSerpent192, "serpent-192", "serpent", 24},
    {Algorithm::kSerpent256, "serpent-256", "serpent", 32},
    {Algorithm::kTwofish128, "twofish-128", "twofish", 16},
    {Algorithm::kTwofish192, "twofish-192", "twofish", 24},
    {Algorithm::kTwofish256, "twofish-256", "twofish", 32},
};
constexpr const char* kModes[] = {"ecb", "cbc", "xts", "ctr"};
constexpr const char* kIvGenerators[] = {"plain", "plain64", "essiv"};

template <class T, size_t N>
std::optional<T> find_name(const char* const (&names)[N], std::string_view name) {
  for (size_t i = 0; i < N; ++i) {
    if (name == names[i]) return static_cast<T>(i);
  }
  return std::nullopt;
}

const Known& known(Algorithm algorithm) {
  return kAlgorithms[static_cast<size_t>(algorithm)];
}

bool usable(Algorithm algorithm) {
  return algorithm != Algorithm::kCast5 && algorithm != Algorithm::kTwofish192;
}

}  // namespace

const char* to_string(Algorithm algorithm) {
  return known(algorithm).name;
}
const char* to_string(Mode mode) {
  return kModes[static_cast<size_t>(mode)];
}
const char* to_string(IvGenerator iv) {
  return kIvGenerators[static_cast<size_t>(iv)];
}

std::optional<Algorithm> parse_algorithm(std::string_view name) {
  for (const Known& k : kAlgorithms) {
    if (name == k.name) return k.algorithm;
  }
  return std::nullopt;
}
std::optional<Mode> parse_mode(std::string_view name) {
  return find_name<Mode>(kModes, name);
}
std::optional<IvGenerator> parse_iv_generator(std::string_view name) {
  return find_name<IvGenerator>(kIvGenerators, name);
}

std::string_view family(Algorithm algorithm) {
  return known(algorithm).family;
}
size_t plain_key_size(Algorithm algorithm) {
  return known(algorithm).key_size;
}
std::optional<Algorithm> find_algorithm(std::string_view family, size_t plain_key_size) {
  for (const Known& k : kAlgorithms) {
    if (k.family == family && k.key_size == plain_key_size) return k.algorithm;
  }
  return std::nullopt;
}

size_t key_size(const CipherSpec& spec) {
  return plain_key_size(spec.algorithm) * (spec.mode == Mode::kXts ? 2 : 1);
}

Result<void> check_supported(const CipherSpec& spec) {
  if (!usable(spec.algorithm)) {
    return make_error(ErrorKind::kUnsupported,
                      "Algorithm '{}' is not supported: use aes, serpent, twofish-128 or "
                      "twofish-256",
                      to_string(spec.algorithm));
  }
  if (spec.iv == IvGenerator::kEssiv) {
    if (!spec.iv_hash) {
      return make_error(ErrorKind::kInvalid, "The IV generator 'essiv' needs a hash");
    }
    const size_t salt = digest_size(*spec.iv_hash);
    std::optional<Algorithm> essiv = find_algorithm(family(spec.algorithm), salt);
    if (!essiv || !usable(*essiv)) {
      return make_error(ErrorKind::kUnsupported, "No {} cipher with key size {} available",
                        family(spec.algorithm), salt);
    }
  }
  return {};
}

}  // namespace calf::crypto
