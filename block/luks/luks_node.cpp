#include "block/luks/luks_node.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "block/crypto/encrypted_io.h"

namespace calf::luks {

LuksNode::LuksNode(Executor& executor, std::unique_ptr<block::Node> file, OpenOptions options)
    : executor_(executor),
      file_(std::move(file)),
      options_(std::move(options)),
      payload_{*file_},
      sectors_(executor, *this) {
  limits_.memory_alignment = file_->limits().memory_alignment;
}

Async<std::unique_ptr<LuksNode>> LuksNode::open(Executor& executor,
                                                std::unique_ptr<block::Node> file,
                                                OpenOptions options) {
  std::unique_ptr<LuksNode> node(new LuksNode(executor, std::move(file), std::move(options)));
  LuksFile store(*node->file_);
  CO_TRY(node->volume_.header, co_await crypto::read_luks_header(store));
  if (node->options_.info_only) co_return node;
  if (!node->options_.passphrase) {
    co_return make_error(ErrorKind::kInvalid, "Parameter 'key-secret' is required for cipher");
  }
  CO_TRY(crypto::SecretBytes passphrase, node->options_.passphrase());
  const crypto::LuksHeader& header = node->volume_.header;
  CO_TRY(node->volume_.key, co_await crypto::unlock_luks(executor, store, header, passphrase));
  CO_TRY(node->cipher_, crypto::SectorCipher::create(header.cipher, node->volume_.key.span()));
  co_return node;
}

Async<> LuksNode::change_keys(const crypto::LuksKeyChange& change) {
  CO_TRY_VOID(check_writable());
  LuksFile store(*file_);
  co_return co_await crypto::change_luks_keys(executor_, store, volume_, change);
}

uint64_t LuksNode::size() const {
  const uint64_t begin = volume_.header.payload_offset;
  const uint64_t end = file_->size();
  return end <= begin ? 0 : align_down(end - begin, block::WholeSectors::kSector);
}

Result<void> LuksNode::check_writable() const {
  if (options_.writable) return {};
  return Error(ErrorKind::kReadOnly, EPERM, "The image is opened read-only");
}

Async<> LuksNode::write(uint64_t offset, IoSlice from, block::WriteFlags flags) {
  CO_TRY_VOID(check_writable());
  CO_TRY_VOID(co_await sectors_.write(offset, from));
  if (flags.fua) co_return co_await flush();
  co_return Result<void>();
}

Async<> LuksNode::write_zeroes(ByteRange range, block::ZeroFlags flags) {
  CO_TRY_VOID(check_writable());
  CO_TRY_VOID(co_await sectors_.write_zeroes(range, flags));
  if (flags.fua) co_return co_await flush();
  co_return Result<void>();
}

Async<> LuksNode::read_sectors(uint64_t offset, IoSlice to) {
  assert(cipher_);
  return crypto::read_encrypted(executor_, *cipher_, payload_,
                                volume_.header.payload_offset + offset,
                                offset / crypto::kSectorSize, to);
}

Async<> LuksNode::write_sectors(uint64_t offset, IoSlice from) {
  assert(cipher_);
  return crypto::write_encrypted(executor_, *cipher_, payload_,
                                 volume_.header.payload_offset + offset,
                                 offset / crypto::kSectorSize, from);
}

Async<> LuksNode::zero_sectors(ByteRange range, block::ZeroFlags) {
  const std::vector<uint8_t> zeroes(std::min(range.length, crypto::kCipherChunk));
  for (uint64_t at = 0; at < range.length;) {
    const uint64_t n = std::min<uint64_t>(range.length - at, zeroes.size());
    FlatIo io(std::span<const uint8_t>(zeroes).first(n));
    CO_TRY_VOID(co_await write_sectors(range.offset + at, io.slice()));
    at += n;
  }
  co_return Result<void>();
}

Async<block::Extent> LuksNode::map(ByteRange range) {
  block::Extent all;
  all.range = range;
  all.allocated = true;
  all.data = true;
  all.encoded = true;
  co_return all;
}

Async<> LuksNode::truncate(uint64_t size, block::Preallocation preallocation) {
  CO_TRY_VOID(check_writable());
  if (!is_aligned(size, block::WholeSectors::kSector)) {
    co_return make_error(ErrorKind::kInvalid, "The new size must be a multiple of 512");
  }
  if (size > static_cast<uint64_t>(INT64_MAX) - volume_.header.payload_offset) {
    co_return Error::from_errno(EFBIG, "The requested file size is too large");
  }
  const uint64_t wanted = volume_.header.payload_offset + size;
  CO_TRY_VOID(co_await file_->truncate(wanted, preallocation));
  if (file_->size() != wanted) co_return block::keeps_its_size(*file_);
  co_return Result<void>();
}

}  // namespace calf::luks
