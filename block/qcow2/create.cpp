// The shape of a new file, as other programs know it:
//
//     | header | refcount table … | refcount blocks … | L1 table … (ends behind its last entry)
//                                                              | LUKS header, if encrypted so
#include "block/qcow2/create.h"

#include <algorithm>
#include <bit>

#include "block/crypto/luks_header.h"
#include "block/qcow2/encryption.h"
#include "block/qcow2/header.h"
#include "block/qcow2/image_state.h"
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

struct Layout {
  uint64_t table_clusters = 1;
  uint64_t blocks = 1;
  uint64_t l1_entries = 0;
  uint64_t luks_clusters = 0;
  uint64_t total = 0;  // clusters
};

Layout lay_out(const Geometry& g, const CreateOptions& options) {
  Layout out;
  out.l1_entries = g.l1_entries_for(align_up(options.size, 512));
  out.luks_clusters = g.clusters_for(encryption_header_bytes(options));
  for (;;) {
    out.total = 1 + out.table_clusters + out.blocks + g.clusters_for(out.l1_entries * 8) +
                out.luks_clusters;
    uint64_t blocks = div_round_up(out.total, g.refcounts_per_block());
    uint64_t table_clusters = g.clusters_for(blocks * 8);
    if (blocks <= out.blocks && table_clusters <= out.table_clusters) return out;
    out.blocks = std::max(blocks, out.blocks);
    out.table_clusters = std::max(table_clusters, out.table_clusters);
  }
}

Geometry geometry_of(const CreateOptions& options) {
  Geometry g;
  g.version = options.version;
  g.cluster_bits = static_cast<unsigned>(std::countr_zero(options.cluster_size));
  g.refcount_order = static_cast<unsigned>(std::countr_zero(options.refcount_bits));
  g.extended_l2 = options.extended_l2;
  g.external_data = options.data_file.has_value();
  return g;
}

// The last clusters of the new file.
ByteRange luks_place(const Geometry& g, const Layout& layout, const CreateOptions& options) {
  return {(layout.total - layout.luks_clusters) << g.cluster_bits,
          encryption_header_bytes(options)};
}

Header make_header(const CreateOptions& options, const Layout& layout) {
  Header header;
  const Geometry g = geometry_of(options);
  header.geometry = g;
  header.size = align_up(options.size, 512);
  header.refcount_table_offset = g.cluster_size();
  header.refcount_table_clusters = static_cast<uint32_t>(layout.table_clusters);
  header.l1_entries = static_cast<uint32_t>(layout.l1_entries);
  if (layout.l1_entries != 0) {
    header.l1_offset = (1 + layout.table_clusters + layout.blocks) << g.cluster_bits;
  }
  header.compression = options.compression;
  if (options.compression != Compression::kZlib) header.incompatible |= format::kCompressionType;
  if (options.extended_l2) header.incompatible |= format::kExtendedL2;
  if (options.data_file) {
    const std::string& name = *options.data_file;
    header.incompatible |= format::kExternalData;
    header.extensions.push_back({format::kExtDataFileName, {name.begin(), name.end()}});
    if (options.data_file_raw) header.autoclear |= format::kRawExternalData;
  }
  if (options.encrypt) header.encryption = options.encrypt->method;
  if (layout.luks_clusters != 0) {
    header.extensions.push_back(encryption_extension(luks_place(g, layout, options)));
  }
  if (options.lazy_refcounts) header.compatible |= format::kLazyRefcounts;
  header.backing_name = options.backing_name;
  header.backing_format = options.backing_format;
  if (options.base_fingerprint) {
    header.extensions.push_back({format::kExtBaseFingerprint, *options.base_fingerprint});
  }
  return header;
}

// Header and tables in one write. Of the L1 table, which is zero, as much as has to be written: a
// device keeps what was on it, in a file it is enough to grow over a long one.
Async<> write_metadata(block::Node& node, std::vector<uint8_t> bytes, const Geometry& g,
                       const Layout& layout, bool is_empty_file) {
  constexpr uint64_t kShortTable = 65536;
  const uint64_t blocks_offset = (1 + layout.table_clusters) << g.cluster_bits;
  const uint64_t l1_offset = blocks_offset + (layout.blocks << g.cluster_bits);
  const uint64_t l1_bytes = layout.l1_entries * 8;
  const bool grow_over_l1 = is_empty_file && l1_bytes > kShortTable;
  bytes.resize(grow_over_l1 ? l1_offset : l1_offset + l1_bytes);
  auto* table = reinterpret_cast<be64*>(bytes.data() + g.cluster_size());
  for (uint64_t i = 0; i < layout.blocks; ++i)
    table[i] = blocks_offset + (i << g.cluster_bits);
  set_counts(bytes.data() + blocks_offset, 0, layout.total, g.refcount_order, 1);
  FlatIo io(std::span<const uint8_t>{bytes});
  CO_TRY_VOID(co_await node.write(0, io.slice(), {}));
  if (!grow_over_l1) co_return Result<void>();
  co_return co_await node.truncate(l1_offset + l1_bytes, block::Preallocation::kOff);
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
  CO_TRY_VOID(co_await node.truncate(place.offset + place.length, block::Preallocation::kOff));
  HostFile file(std::make_unique<BorrowedNode>(node), true);
  LuksClusters clusters(file, place);
  CO_TRY(crypto::LuksVolume volume,
         co_await crypto::format_luks(executor, clusters, format, passphrase));
  (void)volume;
  co_return Result<void>();
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
  const Geometry g = geometry_of(options);
  const Layout layout = lay_out(g, options);
  CO_TRY(std::vector<uint8_t> header, serialize_header(make_header(options, layout)));
  CO_TRY_VOID(co_await file.truncate(0, block::Preallocation::kOff));
  const bool is_empty_file = file.size() == 0;
  CO_TRY_VOID(co_await write_metadata(file, std::move(header), g, layout, is_empty_file));
  if (layout.luks_clusters != 0) {
    ByteRange place = luks_place(g, layout, options);
    CO_TRY_VOID(co_await write_luks_header(executor, file, place, *options.encrypt));
  }
  if (mapped_from_start(options) != block::Preallocation::kOff && options.size != 0) {
    co_return co_await preallocate_new(executor, file, data, options);
  }
  if (data != nullptr) {
    co_return co_await data->truncate(align_up(options.size, 512), block::Preallocation::kOff);
  }
  co_return Result<void>();
}

}  // namespace calf::qcow2
