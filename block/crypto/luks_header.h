// The header of a LUKS1 volume: which cipher, and eight slots that each may hold the volume's key,
// locked with a passphrase.
//
//     0     592      4096                                        payload_offset
//     | header | …     | slot 0's key material | … | slot 7's … |  encrypted disk
//
// parse_luks_header() trusts nothing: every name, place and count is held against its bounds, so
// what comes after may use them as they are. Nothing here does I/O.
//
// Spec: LUKS1 On-Disk Format Specification 1.2.3. All integers are big-endian. Not supported:
// LUKS2, detached headers.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "block/base/endian.h"
#include "block/base/result.h"
#include "block/crypto/cipher_spec.h"

namespace calf::crypto {

constexpr size_t kLuksSlots = 8;
constexpr uint32_t kLuksStripes = 4000;
constexpr size_t kLuksSaltBytes = 32;
constexpr size_t kLuksDigestBytes = 20;
constexpr uint64_t kLuksHeaderBytes = 592;
// Key material and payload start at multiples of it.
constexpr uint64_t kLuksAlignment = 4096;
// The longest key derivation that a header may ask for: some minutes. Real ones take seconds.
constexpr uint32_t kLuksMaxIterations = 1u << 28;
constexpr uint32_t kLuksMinIterations = 1000;

struct LuksSlot {
  bool active = false;
  uint32_t iterations = 0;
  std::array<uint8_t, kLuksSaltBytes> salt{};
  // Bytes from the header's begin.
  uint64_t offset = 0;
  uint32_t stripes = kLuksStripes;
};

struct LuksHeader {
  CipherSpec cipher;
  Hash hash = Hash::kSha256;
  // Bytes from the header's begin.
  uint64_t payload_offset = 0;
  // Of the volume's key.
  std::array<uint8_t, kLuksDigestBytes> digest{};
  std::array<uint8_t, kLuksSaltBytes> digest_salt{};
  uint32_t digest_iterations = 0;
  std::string uuid;
  std::array<LuksSlot, kLuksSlots> slots;

  size_t key_bytes() const { return key_size(cipher); }
  // Bytes of one slot's key material.
  size_t material_bytes() const { return key_bytes() * kLuksStripes; }
  size_t active_slots() const;
};

// `bytes` holds the first kLuksHeaderBytes.
Result<LuksHeader> parse_luks_header(std::span<const uint8_t> bytes);
std::vector<uint8_t> serialize_luks_header(const LuksHeader& header);

// The bytes of one slot, and where in the header they stand.
std::vector<uint8_t> serialize_luks_slot(const LuksSlot& slot);
uint64_t luks_slot_offset(size_t index);

// Bytes from the header's begin to the payload of a new volume with keys of that size.
uint64_t new_luks_payload_offset(size_t key_bytes);

}  // namespace calf::crypto
