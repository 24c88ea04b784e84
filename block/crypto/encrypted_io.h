// Reads and writes of encrypted sectors: through a buffer of our own, so that the caller's memory
// never shows cipher text and is not changed by a write.
//
// Small pieces are (de|en)ciphered at once, by the thread of the executor: that takes less time
// than the way to another thread and back (AES runs at 1.5 GB/s and more, so 64 KiB take 40 µs; a
// hop costs some 20 µs of waiting). Larger ones go to the offload pool.
#pragma once

#include <algorithm>
#include <cstdint>

#include "block/crypto/sector_cipher.h"
#include "block/io/aligned_buffer.h"
#include "block/io/executor.h"
#include "block/io/io_slice.h"

namespace calf::crypto {

constexpr uint64_t kInlineBytes = 64 << 10;
// One buffer's size, whatever the length of the request.
constexpr uint64_t kCipherChunk = 1 << 20;

inline Async<> decrypt_bytes(Executor& executor, SectorCipher& cipher, uint64_t first_sector,
                             std::span<uint8_t> bytes) {
  if (bytes.size() <= kInlineBytes) co_return cipher.decrypt(first_sector, bytes);
  auto work = [&cipher, first_sector, bytes] { return cipher.decrypt(first_sector, bytes); };
  Result<void> done = co_await executor.offload(work);
  co_return done;
}

inline Async<> encrypt_bytes(Executor& executor, SectorCipher& cipher, uint64_t first_sector,
                             std::span<uint8_t> bytes) {
  if (bytes.size() <= kInlineBytes) co_return cipher.encrypt(first_sector, bytes);
  auto work = [&cipher, first_sector, bytes] { return cipher.encrypt(first_sector, bytes); };
  Result<void> done = co_await executor.offload(work);
  co_return done;
}

// `File` has read(offset, slice) and write(offset, slice). `to` and `from` are whole sectors, the
// first of which has the number `first_sector` and stands at `offset` of the file.
template <class File>
Async<> read_encrypted(Executor& executor, SectorCipher& cipher, File& file, uint64_t offset,
                       uint64_t first_sector, IoSlice to) {
  AlignedBuffer buffer(std::min<uint64_t>(to.size(), kCipherChunk));
  for (uint64_t at = 0; at < to.size();) {
    std::span<uint8_t> part =
        buffer.span().first(std::min<uint64_t>(to.size() - at, buffer.size()));
    FlatIo io(part);
    CO_TRY_VOID(co_await file.read(offset + at, io.slice()));
    CO_TRY_VOID(co_await decrypt_bytes(executor, cipher, first_sector + at / kSectorSize, part));
    to.slice(at, part.size()).copy_from(std::span<const uint8_t>(part));
    at += part.size();
  }
  co_return Result<void>();
}

template <class File>
Async<> write_encrypted(Executor& executor, SectorCipher& cipher, File& file, uint64_t offset,
                        uint64_t first_sector, IoSlice from) {
  AlignedBuffer buffer(std::min<uint64_t>(from.size(), kCipherChunk));
  for (uint64_t at = 0; at < from.size();) {
    std::span<uint8_t> part =
        buffer.span().first(std::min<uint64_t>(from.size() - at, buffer.size()));
    from.slice(at, part.size()).copy_to(part);
    CO_TRY_VOID(co_await encrypt_bytes(executor, cipher, first_sector + at / kSectorSize, part));
    FlatIo io{std::span<const uint8_t>(part)};
    CO_TRY_VOID(co_await file.write(offset + at, io.slice()));
    at += part.size();
  }
  co_return Result<void>();
}

}  // namespace calf::crypto
