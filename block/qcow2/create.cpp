#include "block/qcow2/create.h"

#include <algorithm>

#include "block/crypto/luks_header.h"
#include "block/qcow2/encryption.h"
#include "block/qcow2/header.h"
#include "block/qcow2/image_state.h"
#include "block/qcow2/new_layout.h"
#include "block/qcow2/new_tables.h"
#include "block/qcow2/refcount.h"

namespace calf::qcow2 {
namespace {

// A node for the time of an operation that wants to own one; the real one stays the caller's.
class BorrowedNode final : public block::Node {
 public:
  explicit BorrowedNode(block::Node& node) : node_(node) {}
  uint64_t size() const override { return node_.size(); }
  const block::Limits& limits() const override { return node_.limits(); }
  bool read_only() const override { return node_.read_only(); }
  Async<> read(uint64_t offset, IoSlice to) override { return node_.read(offset, to); }
  Async<> write(uint64_t offset, IoSlice from, block::WriteFlags flags) override {
    return node_.write(offset, from, flags);
  }
  Async<> write_zeroes(ByteRange range, block::ZeroFlags flags) override {
    return node_.write_zeroes(range, flags);
  }
  Async<> discard(ByteRange range) override { return node_.discard(range); }
  Async<> flush() override { return node_.flush(); }
  Async<block::Extent> map(ByteRange range) override { return node_.map(range); }
  Async<> truncate(uint64_t size, block::Preallocation preallocation) override {
    return node_.truncate(size, preallocation);
  }
  Async<> close() override { co_return Result<void>(); }
  const std::string& name() const override { return node_.name(); }
  const char* format() const override { return node_.format(); }

 private:
  block::Node& node_;
};

// Header and tables in one write. Of the L1 table, which is zero, as much as has to be written: a
// device keeps what was on it, in a file it is enough to grow over a long one.
Async<> write_metadata(block::Node& node, std::vector<uint8_t> bytes, const NewLayout& layout,
                       bool is_empty_file) {
  constexpr uint64_t kShortTable = 65536;
  const ByteRange l1 = layout.l1_table();
  const bool grow_over_l1 = is_empty_file && l1.length > kShortTable;
  bytes.resize(grow_over_l1 ? l1.offset : l1.end());
  const ByteRange blocks = layout.refcount_blocks();
  auto* table = reinterpret_cast<be64*>(bytes.data() + layout.refcount_table().offset);
  for (uint64_t i = 0; i < layout.blocks; ++i)
    table[i] = blocks.offset + (i << layout.geometry.cluster_bits);
  set_counts(bytes.data() + blocks.offset, 0, layout.total(), layout.geometry.refcount_order, 1);
  FlatIo io(std::span<const uint8_t>{bytes});
  CO_TRY_VOID(co_await node.write(0, io.slice(), {}));
  if (!grow_over_l1) co_return Result<void>();
  co_return co_await node.truncate(l1.end(), block::Preallocation::kOff);
}

// A data file that is to be a raw disk has its clusters mapped, all of them.
block::Preallocation mapped_from_start(const CreateOptions& options) {
  const bool needed = options.data_file_raw && options.preallocation == block::Preallocation::kOff;
  return needed ? block::Preallocation::kMetadata : options.preallocation;
}

Async<> preallocate_new(Executor& executor, block::Node& node, block::Node* data,
                        const CreateOptions& options) {
  std::unique_ptr<block::Node> borrowed = std::make_unique<BorrowedNode>(node);
  OpenOptions open;
  open.writable = true;
  open.unsafe_no_flush = true;
  if (options.encrypt) open.passphrase = options.encrypt->passphrase;
  CO_TRY(auto image, co_await Image::open(executor, std::move(borrowed), std::move(open)));
  if (data != nullptr) image->set_data_file(std::make_unique<BorrowedNode>(*data));
  ByteRange all{0, image->size()};
  Result<void> done = co_await preallocate(image->state(), all, mapped_from_start(options));
  Result<void> closed = co_await image->close();
  co_return done.ok() ? std::move(closed) : std::move(done);
}

Async<> write_luks_header(Executor& executor, block::Node& node, ByteRange place,
                          const EncryptOptions& options) {
  CO_TRY(crypto::LuksFormat format, crypto::complete(options.luks));
  CO_TRY(crypto::SecretBytes passphrase, options.passphrase());
  if (node.size() < place.end()) {
    CO_TRY_VOID(co_await node.truncate(place.end(), block::Preallocation::kOff));
  }
  HostFile file(std::make_unique<BorrowedNode>(node), true);
  LuksClusters clusters(file, place);
  CO_TRY(crypto::LuksVolume volume,
         co_await crypto::format_luks(executor, clusters, format, passphrase));
  (void)volume;
  co_return Result<void>();
}

// True if the tables of a mapped disk can be computed (new_tables.h). Otherwise something has to be
// found out or written for each cluster: what a device holds must be cleared, and version 2 has no
// entry for zeroes of an encrypted disk.
bool has_computed_tables(const CreateOptions& options, const NewLayout& layout,
                         const block::Node* data) {
  if (options.encrypt && options.version < 3) return false;
  if (options.data_file.has_value() != (data != nullptr)) return false;
  if (data != nullptr && data->size() != 0) return false;
  return layout.refcount_table().length <= format::kMaxRefcountTableBytes &&
         layout.total() <= layout.geometry.cluster_index(format::kMaxHostOffset);
}

// Writes an image whose whole disk is mapped into an empty file. Its first sector, which a disk
// writes whole or not at all, comes last, when all that it leads to is durable: before that nobody
// takes the file for an image.
Async<> write_mapped(Executor& executor, block::Node& node, block::Node* data,
                     const CreateOptions& options, const NewLayout& layout,
                     std::vector<uint8_t> header) {
  constexpr size_t kSector = 512;
  block::Preallocation space = mapped_from_start(options);
  if (space == block::Preallocation::kMetadata) space = block::Preallocation::kOff;
  if (data != nullptr) {
    CO_TRY_VOID(co_await data->truncate(align_up(options.size, 512), space));
  }
  header.resize(std::max(header.size(), kSector));
  FlatIo io(std::span<const uint8_t>{header});
  IoSlice whole = io.slice();
  if (IoSlice rest = whole.slice(kSector, header.size() - kSector); !rest.empty()) {
    CO_TRY_VOID(co_await node.write(kSector, rest, {}));
  }
  CO_TRY_VOID(co_await write_new_tables(node, options, layout));
  if (layout.luks_bytes != 0) {
    const ByteRange place = layout.luks_header();
    CO_TRY_VOID(co_await write_luks_header(executor, node, place, *options.encrypt));
  }
  CO_TRY_VOID(co_await node.truncate(layout.total() << layout.geometry.cluster_bits, space));
  CO_TRY_VOID(co_await node.flush());
  co_return co_await node.write(0, whole.slice(0, kSector), {});
}

Error invalid(std::string_view text) {
  return make_error(ErrorKind::kInvalid, "{}", text);
}

}  // namespace

uint64_t encryption_header_bytes(const CreateOptions& options) {
  if (!options.encrypt || options.encrypt->method != Encryption::kLuks) return 0;
  return crypto::new_luks_payload_offset(crypto::key_size(options.encrypt->luks.cipher));
}

Result<void> validate(const CreateOptions& o) {
  constexpr std::string_view kNewer =
      "compatibility level 1.1 and above (use version=v3 or greater)";
  if (!is_power_of_two(o.cluster_size) || o.cluster_size < 512 || o.cluster_size > (2u << 20)) {
    return invalid("Cluster size must be a power of two between 512 and 2048k");
  }
  if (!is_power_of_two(o.refcount_bits) || o.refcount_bits > 64) {
    return invalid("Refcount width must be a power of two and may not exceed 64 bits");
  }
  if (o.version < 3 && o.refcount_bits != 16) {
    return invalid(
        "Different refcount widths than 16 bits require compatibility level 1.1 or "
        "above (use version=v3 or greater)");
  }
  if (o.version < 3 && o.lazy_refcounts) {
    return invalid(fmt::format("Lazy refcounts only supported with {}", kNewer));
  }
  if (o.extended_l2 && o.version < 3) {
    return invalid(fmt::format("Extended L2 entries are only supported with {}", kNewer));
  }
  if (o.extended_l2 && o.cluster_size < 16384) {
    return invalid(
        "Extended L2 entries are only supported with cluster sizes of at least 16384 "
        "bytes");
  }
  if (o.data_file_raw && !o.data_file) return invalid("data-file-raw requires data-file");
  if (o.data_file && o.version < 3) {
    return invalid(fmt::format("External data files are only supported with {}", kNewer));
  }
  if (o.data_file_raw && o.backing_name) {
    return invalid("Backing file and data-file-raw cannot be used at the same time");
  }
  if (o.data_file && o.data_file->size() > format::kMaxBackingName) {
    return invalid("Data file name too long");
  }
  if (o.version < 3 && o.compression != Compression::kZlib) {
    return invalid(fmt::format("Non-zlib compression type is only supported with {}", kNewer));
  }
  if (o.backing_format && !o.backing_name) {
    return invalid("Backing format cannot be used without backing file");
  }
  if (o.backing_name && o.preallocation != block::Preallocation::kOff && !o.extended_l2) {
    return invalid(
        "Backing file and preallocation can only be used at the same time if "
        "extended_l2 is on");
  }
  if (o.backing_name && o.backing_name->size() > format::kMaxBackingName) {
    return invalid("Backing file name too long");
  }
  if (o.encrypt && o.encrypt->method == Encryption::kLuks) {
    TRY(crypto::LuksFormat format, crypto::complete(o.encrypt->luks));
    (void)format;
  }
  Geometry g = geometry_of(o);
  if (o.size > UINT64_MAX - 511 ||
      g.l1_entries_for(align_up(o.size, 512)) * 8 > format::kMaxL1Bytes) {
    return Error(ErrorKind::kNoSpace, EFBIG,
                 "The image size is too large for file format 'qcow2' (try using a larger cluster "
                 "size)");
  }
  return {};
}

Async<> create(Executor& executor, block::Node& file, const CreateOptions& options,
               block::Node* data) {
  CO_TRY_VOID(validate(options));
  const NewLayout layout = lay_out(options, false);
  CO_TRY(std::vector<uint8_t> header, serialize_header(make_header(options, layout)));
  CO_TRY_VOID(co_await file.truncate(0, block::Preallocation::kOff));
  const bool is_empty_file = file.size() == 0;
  const bool mapped = mapped_from_start(options) != block::Preallocation::kOff && options.size != 0;
  if (mapped && is_empty_file) {
    const NewLayout whole = lay_out(options, true);
    if (has_computed_tables(options, whole, data)) {
      CO_TRY(header, serialize_header(make_header(options, whole)));
      co_return co_await write_mapped(executor, file, data, options, whole, std::move(header));
    }
  }
  CO_TRY_VOID(co_await write_metadata(file, std::move(header), layout, is_empty_file));
  if (layout.luks_bytes != 0) {
    const ByteRange place = layout.luks_header();
    CO_TRY_VOID(co_await write_luks_header(executor, file, place, *options.encrypt));
  }
  if (mapped) co_return co_await preallocate_new(executor, file, data, options);
  if (data != nullptr) {
    co_return co_await data->truncate(align_up(options.size, 512), block::Preallocation::kOff);
  }
  co_return Result<void>();
}

}  // namespace calf::qcow2
