#include "block/crypto/luks_header.h"

#include <algorithm>
#include <cstring>

#include "block/base/byte_range.h"

namespace calf::crypto {
namespace {

constexpr uint8_t kMagic[6] = {'L', 'U', 'K', 'S', 0xba, 0xbe};
constexpr uint16_t kVersion = 1;
constexpr uint32_t kSlotActive = 0x00ac71f3;
constexpr uint32_t kSlotInactive = 0x0000dead;
constexpr uint64_t kSector = 512;

struct RawSlot {
  be32 state;                    // 0
  be32 iterations;               // 4
  uint8_t salt[kLuksSaltBytes];  // 8
  be32 offset_sectors;           // 40
  be32 stripes;                  // 44
};
static_assert(sizeof(RawSlot) == 48);

struct RawHeader {
  uint8_t magic[6];                     //   0
  be16 version;                         //   6
  char cipher_name[32];                 //   8
  char cipher_mode[32];                 //  40
  char hash_spec[32];                   //  72
  be32 payload_sectors;                 // 104
  be32 key_bytes;                       // 108
  uint8_t digest[kLuksDigestBytes];     // 112
  uint8_t digest_salt[kLuksSaltBytes];  // 132
  be32 digest_iterations;               // 164
  char uuid[40];                        // 168
  RawSlot slots[kLuksSlots];            // 208
};
static_assert(sizeof(RawHeader) == kLuksHeaderBytes);

template <size_t N>
Result<std::string> text(const char (&field)[N], const char* what) {
  size_t length = strnlen(field, N);
  if (length == N) {
    return make_error(ErrorKind::kCorrupt, "LUKS header {} is not null terminated", what);
  }
  return std::string(field, length);
}

template <size_t N>
void put_text(char (&field)[N], std::string_view value) {
  std::memcpy(field, value.data(), std::min(value.size(), N - 1));
}

// "xts-plain64", "cbc-essiv:sha256", "ecb".
Result<CipherSpec> parse_mode_field(std::string_view field) {
  Error bad = make_error(ErrorKind::kCorrupt, "Unexpected cipher mode string format '{}'", field);
  CipherSpec spec;
  const size_t dash = field.find('-');
  std::optional<Mode> mode = parse_mode(field.substr(0, dash));
  if (!mode) {
    return make_error(ErrorKind::kUnsupported, "Algorithm '{}' for cipher mode is not supported",
                      field.substr(0, dash));
  }
  spec.mode = *mode;
  spec.iv = IvGenerator::kPlain64;
  if (dash == std::string_view::npos) {
    if (*mode != Mode::kEcb) return bad;
    return spec;
  }
  std::string_view iv = field.substr(dash + 1);
  if (const size_t colon = iv.find(':'); colon != std::string_view::npos) {
    spec.iv_hash = parse_hash(iv.substr(colon + 1));
    if (!spec.iv_hash) {
      return make_error(ErrorKind::kUnsupported, "Hash algorithm '{}' is not supported",
                        iv.substr(colon + 1));
    }
    iv = iv.substr(0, colon);
  }
  std::optional<IvGenerator> generator = parse_iv_generator(iv);
  if (!generator) {
    return make_error(ErrorKind::kUnsupported, "IV generator '{}' is not supported", iv);
  }
  spec.iv = *generator;
  if (spec.iv == IvGenerator::kEssiv && !spec.iv_hash) {
    return make_error(ErrorKind::kCorrupt, "Missing IV generator hash specification");
  }
  return spec;
}

Result<CipherSpec> parse_cipher(const RawHeader& raw) {
  TRY(std::string name, text(raw.cipher_name, "cipher name"));
  TRY(std::string mode, text(raw.cipher_mode, "cipher mode"));
  TRY(CipherSpec spec, parse_mode_field(mode));
  const uint32_t key_bytes = raw.key_bytes;
  if (spec.mode == Mode::kXts && key_bytes % 2 != 0) {
    return make_error(ErrorKind::kCorrupt, "XTS cipher key length should be a multiple of 2");
  }
  std::optional<Algorithm> algorithm =
      find_algorithm(name, spec.mode == Mode::kXts ? key_bytes / 2 : key_bytes);
  if (!algorithm) {
    return make_error(ErrorKind::kUnsupported, "Algorithm '{}' with key size {} is not supported",
                      name, key_bytes);
  }
  spec.algorithm = *algorithm;
  return spec;
}

Result<void> check_iterations(std::string_view what, uint32_t iterations) {
  if (iterations == 0) {
    return make_error(ErrorKind::kCorrupt, "{} iteration count is zero", what);
  }
  if (iterations > kLuksMaxIterations) {
    return make_error(ErrorKind::kCorrupt, "{} iteration count {} is above the limit of {}", what,
                      iterations, kLuksMaxIterations);
  }
  return {};
}

// Inactive slots, too, have a place: a new key goes there.
Result<void> check_slots(const LuksHeader& header) {
  for (size_t i = 0; i < kLuksSlots; ++i) {
    const LuksSlot& slot = header.slots[i];
    const ByteRange own{slot.offset, header.material_bytes()};
    if (slot.stripes != kLuksStripes) {
      return make_error(ErrorKind::kCorrupt, "Keyslot {} is corrupted (stripes count {} != {})", i,
                        slot.stripes, kLuksStripes);
    }
    if (own.offset < align_up(kLuksHeaderBytes, kSector)) {
      return make_error(ErrorKind::kCorrupt, "Keyslot {} is overlapping with the LUKS header", i);
    }
    if (slot.active) {
      TRY_VOID(check_iterations(fmt::format("Keyslot {}", i), slot.iterations));
    }
    if (own.end() > header.payload_offset) {
      return make_error(ErrorKind::kCorrupt, "Keyslot {} is overlapping with the encrypted payload",
                        i);
    }
    for (size_t k = 0; k < i; ++k) {
      const ByteRange other{header.slots[k].offset, header.material_bytes()};
      if (own.overlaps(other)) {
        return make_error(ErrorKind::kCorrupt, "Keyslots {} and {} are overlapping in the header",
                          k, i);
      }
    }
  }
  return {};
}

RawSlot to_raw(const LuksSlot& slot) {
  RawSlot raw{};
  raw.state = slot.active ? kSlotActive : kSlotInactive;
  raw.iterations = slot.iterations;
  std::copy(slot.salt.begin(), slot.salt.end(), raw.salt);
  raw.offset_sectors = static_cast<uint32_t>(slot.offset / kSector);
  raw.stripes = slot.stripes;
  return raw;
}

template <class T>
std::vector<uint8_t> to_bytes(const T& raw) {
  auto* begin = reinterpret_cast<const uint8_t*>(&raw);
  return {begin, begin + sizeof raw};
}

}  // namespace

size_t LuksHeader::active_slots() const {
  return static_cast<size_t>(
      std::count_if(slots.begin(), slots.end(), [](const LuksSlot& s) { return s.active; }));
}

Result<LuksHeader> parse_luks_header(std::span<const uint8_t> bytes) {
  RawHeader raw;
  if (bytes.size() < sizeof raw || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) {
    return make_error(ErrorKind::kInvalid, "Volume is not in LUKS format");
  }
  std::memcpy(&raw, bytes.data(), sizeof raw);
  if (raw.version != kVersion) {
    return make_error(ErrorKind::kUnsupported, "LUKS version {} is not supported",
                      raw.version.value());
  }
  LuksHeader header;
  TRY(header.cipher, parse_cipher(raw));
  TRY(std::string hash, text(raw.hash_spec, "hash spec"));
  std::optional<Hash> known_hash = parse_hash(hash);
  if (!known_hash) {
    return make_error(ErrorKind::kUnsupported, "Hash algorithm '{}' is not supported", hash);
  }
  header.hash = *known_hash;
  header.payload_offset = uint64_t{raw.payload_sectors} * kSector;
  if (header.payload_offset < kLuksAlignment) {
    return make_error(ErrorKind::kCorrupt, "LUKS payload is overlapping with the header");
  }
  std::copy(std::begin(raw.digest), std::end(raw.digest), header.digest.begin());
  std::copy(std::begin(raw.digest_salt), std::end(raw.digest_salt), header.digest_salt.begin());
  header.digest_iterations = raw.digest_iterations;
  TRY_VOID(check_iterations("LUKS key", header.digest_iterations));
  header.uuid.assign(raw.uuid, strnlen(raw.uuid, sizeof raw.uuid));
  for (size_t i = 0; i < kLuksSlots; ++i) {
    const RawSlot& from = raw.slots[i];
    LuksSlot& slot = header.slots[i];
    if (from.state != kSlotActive && from.state != kSlotInactive) {
      return make_error(ErrorKind::kCorrupt, "Keyslot {} state (active/disable) is corrupted", i);
    }
    slot.active = from.state == kSlotActive;
    slot.iterations = from.iterations;
    std::copy(std::begin(from.salt), std::end(from.salt), slot.salt.begin());
    slot.offset = uint64_t{from.offset_sectors} * kSector;
    slot.stripes = from.stripes;
  }
  TRY_VOID(check_slots(header));
  return header;
}

std::vector<uint8_t> serialize_luks_header(const LuksHeader& header) {
  RawHeader raw{};
  std::copy(std::begin(kMagic), std::end(kMagic), raw.magic);
  raw.version = kVersion;
  put_text(raw.cipher_name, family(header.cipher.algorithm));
  std::string mode =
      fmt::format("{}-{}", to_string(header.cipher.mode), to_string(header.cipher.iv));
  if (header.cipher.iv_hash) mode += fmt::format(":{}", to_string(*header.cipher.iv_hash));
  put_text(raw.cipher_mode, mode);
  put_text(raw.hash_spec, to_string(header.hash));
  raw.payload_sectors = static_cast<uint32_t>(header.payload_offset / kSector);
  raw.key_bytes = static_cast<uint32_t>(header.key_bytes());
  std::copy(header.digest.begin(), header.digest.end(), raw.digest);
  std::copy(header.digest_salt.begin(), header.digest_salt.end(), raw.digest_salt);
  raw.digest_iterations = header.digest_iterations;
  put_text(raw.uuid, header.uuid);
  for (size_t i = 0; i < kLuksSlots; ++i)
    raw.slots[i] = to_raw(header.slots[i]);
  return to_bytes(raw);
}

std::vector<uint8_t> serialize_luks_slot(const LuksSlot& slot) {
  return to_bytes(to_raw(slot));
}

uint64_t luks_slot_offset(size_t index) {
  return offsetof(RawHeader, slots) + index * sizeof(RawSlot);
}

uint64_t new_luks_payload_offset(size_t key_bytes) {
  return kLuksAlignment + kLuksSlots * align_up(key_bytes * kLuksStripes, kLuksAlignment);
}

}  // namespace calf::crypto
