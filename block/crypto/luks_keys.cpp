#include "block/crypto/luks_keys.h"

#include <algorithm>

#include "block/base/byte_range.h"
#include "block/crypto/anti_forensic.h"

namespace calf::crypto {
namespace {

// The slots' derivations share the time that is asked for with the check of the volume's key, which
// gets the smaller part.
constexpr uint64_t kDigestShare = 8;
constexpr uint64_t kMaxIterTime = uint64_t{1} << 32;

uint32_t bounded_iterations(uint64_t iterations) {
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(iterations, kLuksMinIterations, kLuksMaxIterations));
}

Result<void> compute_digest(const LuksHeader& header, std::span<const uint8_t> key,
                            std::span<uint8_t> out) {
  return pbkdf2(header.hash, key, header.digest_salt, header.digest_iterations, out);
}

// Takes as long whatever differs.
bool same_bytes(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  unsigned differ = 0;
  for (size_t i = 0; i < a.size(); ++i)
    differ |= static_cast<unsigned>(a[i] ^ b[i]);
  return differ == 0;
}

// The volume's key out of decrypted or the other way round: all that is computed for one slot.
// Long: for the offload pool.
Result<std::optional<SecretBytes>> open_material(const LuksHeader& header, const LuksSlot& slot,
                                                 const SecretBytes& passphrase,
                                                 std::span<uint8_t> material) {
  SecretBytes slot_key(header.key_bytes());
  TRY_VOID(pbkdf2(header.hash, passphrase.span(), slot.salt, slot.iterations, slot_key.span()));
  TRY(auto cipher, SectorCipher::create(header.cipher, slot_key.span()));
  TRY_VOID(cipher->decrypt(0, material));
  TRY(SecretBytes key, af_merge(header.hash, material, header.key_bytes(), slot.stripes));
  SecretBytes sum(kLuksDigestBytes);
  TRY_VOID(compute_digest(header, key.span(), sum.span()));
  if (!same_bytes(sum.span(), header.digest)) {
    return std::optional<SecretBytes>();
  }
  return std::optional<SecretBytes>(std::move(key));
}

Result<SecretBytes> make_material(const LuksVolume& volume, const LuksSlot& slot,
                                  const SecretBytes& passphrase) {
  const LuksHeader& header = volume.header;
  SecretBytes slot_key(header.key_bytes());
  TRY_VOID(pbkdf2(header.hash, passphrase.span(), slot.salt, slot.iterations, slot_key.span()));
  TRY(auto cipher, SectorCipher::create(header.cipher, slot_key.span()));
  TRY(SecretBytes material, af_split(header.hash, volume.key.span(), slot.stripes));
  TRY_VOID(cipher->encrypt(0, material.span()));
  return material;
}

Async<std::optional<SecretBytes>> try_slot(Executor& executor, LuksStore& store,
                                           const LuksHeader& header, size_t index,
                                           const SecretBytes& passphrase) {
  const LuksSlot& slot = header.slots[index];
  if (!slot.active) co_return std::optional<SecretBytes>();
  SecretBytes material(header.material_bytes());
  CO_TRY_VOID(co_await store.read(slot.offset, material.span()));
  auto work = [&header, &slot, &passphrase, &material] {
    return open_material(header, slot, passphrase, material.span());
  };
  Result<std::optional<SecretBytes>> key = co_await executor.offload(work);
  co_return key;
}

// Switches a slot on or off, durably. What the header in memory says follows.
Async<> write_slot(LuksStore& store, LuksHeader& header, size_t index, LuksSlot slot) {
  const std::vector<uint8_t> bytes = serialize_luks_slot(slot);
  CO_TRY_VOID(co_await store.write(luks_slot_offset(index), bytes));
  header.slots[index] = slot;
  co_return co_await store.flush();
}

// Gives an inactive slot the passphrase.
Async<> fill_slot(Executor& executor, LuksStore& store, LuksVolume& volume, size_t index,
                  const SecretBytes& passphrase, uint32_t iterations) {
  LuksSlot slot = volume.header.slots[index];
  slot.active = false;
  slot.iterations = iterations;
  CO_TRY_VOID(fill_random(slot.salt));
  auto work = [&volume, &slot, &passphrase] { return make_material(volume, slot, passphrase); };
  Result<SecretBytes> made = co_await executor.offload(work);
  CO_TRY(SecretBytes material, std::move(made));
  // A slot's bytes may lie across two sectors, of which a power cut keeps one: everything is in its
  // place before the word that switches the slot on.
  CO_TRY_VOID(co_await store.write(slot.offset, material.span()));
  CO_TRY_VOID(co_await write_slot(store, volume.header, index, slot));
  slot.active = true;
  co_return co_await write_slot(store, volume.header, index, slot);
}

Async<> erase_slot(LuksStore& store, LuksVolume& volume, size_t index) {
  LuksSlot slot = volume.header.slots[index];
  slot.active = false;
  slot.iterations = 0;
  slot.salt = {};
  CO_TRY_VOID(co_await write_slot(store, volume.header, index, slot));
  std::vector<uint8_t> noise(volume.header.material_bytes());
  CO_TRY_VOID(fill_random(noise));
  CO_TRY_VOID(co_await store.write(slot.offset, noise));
  co_return co_await store.flush();
}

Async<uint32_t> measure_iterations(Executor& executor, Hash hash, size_t bytes, uint64_t millis) {
  if (millis > kMaxIterTime) {
    co_return make_error(ErrorKind::kInvalid, "The iteration time is too long");
  }
  auto work = [hash, bytes, millis] { return pbkdf2_iterations(hash, bytes, millis); };
  Result<uint64_t> measured = co_await executor.offload(work);
  CO_TRY(uint64_t iterations, std::move(measured));
  co_return bounded_iterations(iterations);
}

std::optional<size_t> free_slot(const LuksHeader& header) {
  for (size_t i = 0; i < kLuksSlots; ++i) {
    if (!header.slots[i].active) return i;
  }
  return std::nullopt;
}

Result<void> check_slot_number(const LuksKeyChange& change) {
  if (!change.slot || *change.slot < kLuksSlots) return {};
  return make_error(ErrorKind::kInvalid, "Invalid keyslot {} specified, must be between 0 and {}",
                    *change.slot, kLuksSlots - 1);
}

Async<> add_key(Executor& executor, LuksStore& store, LuksVolume& volume,
                const LuksKeyChange& change) {
  if (!change.new_passphrase) {
    co_return make_error(ErrorKind::kInvalid, "'new-secret' is required to activate a keyslot");
  }
  if (change.old_passphrase) {
    co_return make_error(ErrorKind::kInvalid,
                         "'old-secret' must not be given when activating keyslots");
  }
  CO_TRY_VOID(check_slot_number(change));
  std::optional<size_t> spare = free_slot(volume.header);
  size_t index = 0;
  if (change.slot) {
    index = static_cast<size_t>(*change.slot);
  } else if (spare) {
    index = *spare;
  } else {
    co_return make_error(ErrorKind::kInvalid, "Can't add a keyslot - all keyslots are in use");
  }
  const bool overwrites = volume.header.slots[index].active;
  if (overwrites && !change.force) {
    co_return make_error(ErrorKind::kInvalid,
                         "Refusing to overwrite active keyslot {} - please erase it first", index);
  }
  const LuksHeader& header = volume.header;
  CO_TRY(uint32_t iterations,
         co_await measure_iterations(executor, header.hash, header.key_bytes(),
                                     change.iter_time.value_or(LuksFormat{}.iter_time)));
  const SecretBytes& passphrase = *change.new_passphrase;
  if (overwrites && spare) {
    CO_TRY_VOID(co_await fill_slot(executor, store, volume, *spare, passphrase, iterations));
  }
  if (overwrites) CO_TRY_VOID(co_await erase_slot(store, volume, index));
  CO_TRY_VOID(co_await fill_slot(executor, store, volume, index, passphrase, iterations));
  if (overwrites && spare) CO_TRY_VOID(co_await erase_slot(store, volume, *spare));
  co_return Result<void>();
}

// The slots that the old passphrase opens.
Async<std::vector<size_t>> matching_slots(Executor& executor, LuksStore& store,
                                          const LuksVolume& volume, const LuksKeyChange& change) {
  std::vector<size_t> found;
  for (size_t i = 0; i < kLuksSlots; ++i) {
    if (change.slot && *change.slot != i) continue;
    CO_TRY(std::optional<SecretBytes> key,
           co_await try_slot(executor, store, volume.header, i, *change.old_passphrase));
    if (key) found.push_back(i);
  }
  co_return found;
}

Async<> erase_keys(Executor& executor, LuksStore& store, LuksVolume& volume,
                   const LuksKeyChange& change) {
  if (change.new_passphrase) {
    co_return make_error(ErrorKind::kInvalid,
                         "'new-secret' must not be given when erasing keyslots");
  }
  if (change.iter_time) {
    co_return make_error(ErrorKind::kInvalid,
                         "'iter-time' must not be given when erasing keyslots");
  }
  CO_TRY_VOID(check_slot_number(change));
  const size_t active = volume.header.active_slots();
  std::vector<size_t> slots;
  if (change.old_passphrase) {
    CO_TRY(slots, co_await matching_slots(executor, store, volume, change));
    if (slots.empty()) {
      co_return make_error(ErrorKind::kInvalid,
                           "No keyslots match given (old) password for erase operation");
    }
    if (!change.force && slots.size() == active) {
      co_return make_error(ErrorKind::kInvalid,
                           "All the active keyslots match the (old) password that was given and "
                           "erasing them will erase all the data in the image irreversibly - "
                           "refusing operation");
    }
  } else if (change.slot) {
    const size_t index = static_cast<size_t>(*change.slot);
    if (!change.force && !volume.header.slots[index].active) {
      co_return make_error(ErrorKind::kInvalid, "Given keyslot {} is already erased (inactive) ",
                           index);
    }
    if (!change.force && active == 1) {
      co_return make_error(ErrorKind::kInvalid,
                           "Attempt to erase the only active keyslot {} which will erase all the "
                           "data in the image irreversibly - refusing operation",
                           index);
    }
    slots.push_back(index);
  } else {
    co_return make_error(ErrorKind::kInvalid,
                         "To erase keyslot(s), either explicit keyslot index or the password "
                         "currently contained in them must be given");
  }
  for (size_t index : slots)
    CO_TRY_VOID(co_await erase_slot(store, volume, index));
  co_return Result<void>();
}

// A random UUID (RFC 4122, version 4).
Result<std::string> make_uuid() {
  uint8_t b[16];
  TRY_VOID(fill_random(b));
  b[6] = static_cast<uint8_t>((b[6] & 0x0f) | 0x40);
  b[8] = static_cast<uint8_t>((b[8] & 0x3f) | 0x80);
  std::string out;
  for (size_t i = 0; i < sizeof b; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += fmt::format("{:02x}", b[i]);
  }
  return out;
}

}  // namespace

Result<LuksFormat> complete(LuksFormat format) {
  if (format.cipher.iv == IvGenerator::kEssiv && !format.cipher.iv_hash) {
    format.cipher.iv_hash = Hash::kSha256;
  }
  if (format.iter_time == 0) {
    return make_error(ErrorKind::kInvalid, "The iteration time must not be zero");
  }
  TRY_VOID(check_supported(format.cipher));
  return format;
}

Async<LuksHeader> read_luks_header(LuksStore& store) {
  std::vector<uint8_t> bytes(kLuksHeaderBytes);
  CO_TRY_VOID(co_await store.read(0, bytes));
  co_return parse_luks_header(bytes);
}

Async<LuksVolume> format_luks(Executor& executor, LuksStore& store, const LuksFormat& format,
                              const SecretBytes& passphrase) {
  LuksVolume volume;
  LuksHeader& header = volume.header;
  header.cipher = format.cipher;
  header.hash = format.hash;
  CO_TRY(header.uuid, make_uuid());
  const size_t key_bytes = header.key_bytes();
  header.payload_offset = new_luks_payload_offset(key_bytes);
  for (size_t i = 0; i < kLuksSlots; ++i) {
    header.slots[i].offset = kLuksAlignment + i * align_up(header.material_bytes(), kLuksAlignment);
  }
  volume.key = SecretBytes(key_bytes);
  CO_TRY_VOID(fill_random(volume.key.span()));
  CO_TRY_VOID(fill_random(header.digest_salt));
  CO_TRY(header.digest_iterations,
         co_await measure_iterations(executor, header.hash, kLuksDigestBytes,
                                     format.iter_time / kDigestShare));
  auto work = [&header, &volume] {
    return compute_digest(header, volume.key.span(), header.digest);
  };
  Result<void> computed = co_await executor.offload(work);
  CO_TRY_VOID(std::move(computed));
  const std::vector<uint8_t> bytes = serialize_luks_header(header);
  CO_TRY_VOID(co_await store.write(0, bytes));
  CO_TRY(uint32_t iterations,
         co_await measure_iterations(executor, header.hash, key_bytes, format.iter_time));
  CO_TRY_VOID(co_await fill_slot(executor, store, volume, 0, passphrase, iterations));
  co_return volume;
}

Async<SecretBytes> unlock_luks(Executor& executor, LuksStore& store, const LuksHeader& header,
                               const SecretBytes& passphrase) {
  CO_TRY_VOID(check_supported(header.cipher));
  for (size_t i = 0; i < kLuksSlots; ++i) {
    CO_TRY(std::optional<SecretBytes> key,
           co_await try_slot(executor, store, header, i, passphrase));
    if (key) co_return std::move(*key);
  }
  co_return Error(ErrorKind::kPermission, "Invalid password, cannot unlock any keyslot");
}

Async<> change_luks_keys(Executor& executor, LuksStore& store, LuksVolume& volume,
                         const LuksKeyChange& change) {
  if (change.activate) co_return co_await add_key(executor, store, volume, change);
  co_return co_await erase_keys(executor, store, volume, change);
}

}  // namespace calf::crypto
