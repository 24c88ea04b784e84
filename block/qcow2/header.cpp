#include "block/qcow2/header.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

namespace calf::qcow2 {
namespace {

using format::ExtensionHeader;

template <class T>
T load(std::span<const uint8_t> bytes, size_t offset) {
  T out{};
  size_t n = std::min(sizeof(T), bytes.size() - offset);
  std::memcpy(&out, bytes.data() + offset, n);
  return out;
}

std::string to_text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads the extensions between the header and `end`.
Result<std::vector<Extension>> parse_extensions(std::span<const uint8_t> cluster0, size_t begin,
                                                size_t end) {
  std::vector<Extension> out;
  std::set<uint32_t> seen;
  size_t offset = begin;
  while (end - offset >= sizeof(ExtensionHeader)) {
    auto head = load<ExtensionHeader>(cluster0, offset);
    offset += sizeof head;
    if (head.type == format::kExtEnd) break;
    if (head.length > end - offset) {
      return make_error(ErrorKind::kCorrupt, "Header extension too large");
    }
    if (!seen.insert(head.type).second) {
      return make_error(ErrorKind::kCorrupt, "Header extension {:#x} appears more than once",
                        head.type.value());
    }
    auto data = cluster0.subspan(offset, head.length);
    out.push_back({head.type, {data.begin(), data.end()}});
    offset += std::min<size_t>(align_up(head.length, 8), end - offset);
  }
  return out;
}

// The names that the image gives to the features in `mask`, then the bits without a name.
std::string feature_list(uint64_t mask, const Extension* names) {
  std::string out;
  // What is missing of the last entry is zero.
  for (size_t at = 0; names != nullptr && at < names->data.size();
       at += sizeof(format::FeatureName)) {
    auto feature = load<format::FeatureName>(names->data, at);
    if (feature.type != 0 || feature.bit > 63) continue;
    uint64_t bit = uint64_t{1} << feature.bit;
    if ((mask & bit) == 0) continue;
    mask &= ~bit;
    if (!out.empty()) out += ", ";
    out.append(feature.name, strnlen(feature.name, sizeof feature.name));
  }
  if (mask != 0) {
    if (!out.empty()) out += ", ";
    out += fmt::format("Unknown incompatible feature: {:x}", mask);
  }
  return out;
}

Result<void> parse_backing_name(std::span<const uint8_t> cluster0, const format::Header& raw,
                                Header* header) {
  uint64_t offset = raw.backing_name_offset;
  if (offset == 0) return {};
  uint32_t length = raw.backing_name_length;
  if (length > format::kMaxBackingName || length > header->geometry.cluster_size() - offset ||
      offset + length > cluster0.size()) {
    return make_error(ErrorKind::kCorrupt, "Backing file name too long");
  }
  std::string name = to_text(cluster0.subspan(offset, length));
  if (name.find('\0') != std::string::npos) {
    return make_error(ErrorKind::kCorrupt, "Backing file name contains a zero byte");
  }
  if (!name.empty()) header->backing_name = std::move(name);
  return {};
}

// An external data file's name is a path like a backing file's.
Result<void> check_data_file(const Header& header) {
  if ((header.autoclear & format::kRawExternalData) != 0 && !header.has(format::kExternalData)) {
    return make_error(ErrorKind::kCorrupt, "data-file-raw requires a data file");
  }
  std::optional<std::string> name = header.data_file_name();
  if (!name) return {};
  if (name->empty() || name->size() > format::kMaxBackingName) {
    return make_error(ErrorKind::kCorrupt, "Data file name has a bad length: {}", name->size());
  }
  if (name->find('\0') != std::string::npos) {
    return make_error(ErrorKind::kCorrupt, "Data file name contains a zero byte");
  }
  return {};
}

Result<void> parse_compression(const format::Header& raw, uint32_t header_length, Header* header) {
  uint8_t type =
      header_length > offsetof(format::Header, compression_type) ? raw.compression_type : 0;
  if (type > static_cast<uint8_t>(Compression::kZstd)) {
    return make_error(ErrorKind::kUnsupported, "qcow2: unknown compression type: {}", type);
  }
  header->compression = static_cast<Compression>(type);
  if ((type != 0) != header->has(format::kCompressionType)) {
    return make_error(ErrorKind::kCorrupt,
                      "qcow2: Compression type incompatible feature bit must {}be set",
                      type != 0 ? "" : "not ");
  }
  return {};
}

void put_extension(std::vector<uint8_t>* out, uint32_t type, std::span<const uint8_t> data) {
  ExtensionHeader head{type, static_cast<uint32_t>(data.size())};
  auto* bytes = reinterpret_cast<const uint8_t*>(&head);
  out->insert(out->end(), bytes, bytes + sizeof head);
  out->insert(out->end(), data.begin(), data.end());
  out->resize(align_up(out->size(), 8));
}

std::vector<uint8_t> feature_name_table() {
  struct Known {
    uint8_t type, bit;
    const char* name;
  };
  static constexpr Known kKnown[] = {
      {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
      {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
      {2, 0, "bitmaps"},          {2, 1, "raw external data"},
  };
  std::vector<uint8_t> out;
  for (const Known& known : kKnown) {
    format::FeatureName entry{known.type, known.bit, {}};
    std::strncpy(entry.name, known.name, sizeof entry.name - 1);
    auto* bytes = reinterpret_cast<const uint8_t*>(&entry);
    out.insert(out.end(), bytes, bytes + sizeof entry);
  }
  return out;
}

// Extensions in the order in which QEMU writes them; unknown ones keep their order, at the end.
int extension_rank(uint32_t type) {
  switch (type) {
    case format::kExtBackingFormat:
      return 0;
    case format::kExtDataFileName:
      return 1;
    case format::kExtEncryption:
      return 2;
    case format::kExtFeatureNames:
      return 3;
    case format::kExtBitmaps:
      return 4;
    default:
      return 5;
  }
}

void sort_extensions(std::vector<Extension>* extensions) {
  std::stable_sort(extensions->begin(), extensions->end(), [](const auto& a, const auto& b) {
    return extension_rank(a.type) < extension_rank(b.type);
  });
}

// Those of the header, the backing format as it is now.
std::vector<Extension> ordered_extensions(const Header& header) {
  std::vector<Extension> extensions;
  for (const Extension& extension : header.extensions) {
    if (extension.type != format::kExtBackingFormat) extensions.push_back(extension);
  }
  if (header.backing_format) {
    const std::string& text = *header.backing_format;
    extensions.push_back({format::kExtBackingFormat, {text.begin(), text.end()}});
  }
  sort_extensions(&extensions);
  return extensions;
}

std::vector<uint8_t> serialize_fields(const Header& header) {
  format::Header raw{};
  const Geometry& g = header.geometry;
  raw.magic = format::kMagic;
  raw.version = g.version;
  raw.cluster_bits = g.cluster_bits;
  raw.size = header.size;
  raw.encryption_method = static_cast<uint32_t>(header.encryption);
  raw.l1_entries = header.l1_entries;
  raw.l1_offset = header.l1_offset;
  raw.refcount_table_offset = header.refcount_table_offset;
  raw.refcount_table_clusters = header.refcount_table_clusters;
  raw.snapshot_count = header.snapshot_count;
  raw.snapshots_offset = header.snapshots_offset;
  raw.incompatible_features = header.incompatible;
  raw.compatible_features = header.compatible;
  raw.autoclear_features = header.autoclear;
  raw.refcount_order = g.refcount_order;
  raw.compression_type = static_cast<uint8_t>(header.compression);
  raw.header_length = static_cast<uint32_t>(sizeof raw + header.unknown_fields.size());
  auto* bytes = reinterpret_cast<const uint8_t*>(&raw);
  if (g.version < 3) return {bytes, bytes + format::kHeaderLengthV2};
  std::vector<uint8_t> out(bytes, bytes + sizeof raw);
  out.insert(out.end(), header.unknown_fields.begin(), header.unknown_fields.end());
  return out;
}

}  // namespace

const char* to_string(Compression compression) {
  return compression == Compression::kZstd ? "zstd" : "zlib";
}

std::optional<std::string> Header::data_file_name() const {
  const Extension* name = find(format::kExtDataFileName);
  return name != nullptr ? std::optional(to_text(name->data)) : std::nullopt;
}

const Extension* Header::find(uint32_t type) const {
  for (const Extension& extension : extensions) {
    if (extension.type == type) return &extension;
  }
  return nullptr;
}

Result<uint64_t> header_area_size(std::span<const uint8_t> first_bytes) {
  if (first_bytes.size() < format::kHeaderLengthV2) {
    return make_error(ErrorKind::kInvalid, "Image is not in qcow2 format");
  }
  auto raw = load<format::Header>(first_bytes, 0);
  if (raw.magic != format::kMagic) {
    return make_error(ErrorKind::kInvalid, "Image is not in qcow2 format");
  }
  if (raw.version < 2 || raw.version > 3) {
    return make_error(ErrorKind::kUnsupported, "Unsupported qcow2 version {}", raw.version.value());
  }
  if (raw.cluster_bits < format::kMinClusterBits || raw.cluster_bits > format::kMaxClusterBits) {
    return make_error(ErrorKind::kInvalid, "Unsupported cluster size: 2^{}",
                      raw.cluster_bits.value());
  }
  return uint64_t{1} << raw.cluster_bits;
}

Result<Header> parse_header(std::span<const uint8_t> cluster0) {
  TRY(uint64_t cluster_size, header_area_size(cluster0));
  auto raw = load<format::Header>(cluster0, 0);
  Header header;
  header.geometry.version = raw.version;
  header.geometry.cluster_bits = raw.cluster_bits;
  header.size = raw.size;
  header.l1_entries = raw.l1_entries;
  header.l1_offset = raw.l1_offset;
  header.refcount_table_offset = raw.refcount_table_offset;
  header.refcount_table_clusters = raw.refcount_table_clusters;
  header.snapshot_count = raw.snapshot_count;
  header.snapshots_offset = raw.snapshots_offset;

  uint32_t header_length = format::kHeaderLengthV2;
  if (raw.version >= 3) {
    header_length = raw.header_length;
    if (header_length < format::kHeaderLengthV3Min || cluster0.size() < header_length) {
      if (header_length > cluster_size) {
        return make_error(ErrorKind::kCorrupt, "qcow2 header exceeds cluster size");
      }
      return make_error(ErrorKind::kCorrupt, "qcow2 header too short");
    }
    header.incompatible = raw.incompatible_features;
    header.compatible = raw.compatible_features;
    header.autoclear = raw.autoclear_features;
  }
  if (header_length > sizeof raw) {
    auto rest = cluster0.subspan(sizeof raw, header_length - sizeof raw);
    header.unknown_fields.assign(rest.begin(), rest.end());
  }
  if (raw.backing_name_offset > cluster_size || raw.backing_name_offset > cluster0.size() ||
      (raw.backing_name_offset != 0 && raw.backing_name_offset < header_length)) {
    return make_error(ErrorKind::kCorrupt, "Invalid backing file offset");
  }
  size_t end = cluster0.size();
  if (raw.backing_name_offset != 0) end = raw.backing_name_offset;
  TRY(header.extensions, parse_extensions(cluster0, header_length, end));

  uint64_t unknown = header.incompatible & ~format::kKnownIncompatible;
  if (unknown != 0) {
    return make_error(ErrorKind::kUnsupported, "Unsupported qcow2 feature(s): {}",
                      feature_list(unknown, header.find(format::kExtFeatureNames)));
  }
  if (raw.version >= 3) {
    if (raw.refcount_order > 6) {
      return make_error(ErrorKind::kCorrupt,
                        "Reference count entry width too large; may not exceed 64 bits");
    }
    header.geometry.refcount_order = raw.refcount_order;
  }
  if (raw.encryption_method > static_cast<uint32_t>(Encryption::kLuks)) {
    return make_error(ErrorKind::kUnsupported, "Unsupported encryption method {}",
                      raw.encryption_method.value());
  }
  header.encryption = static_cast<Encryption>(raw.encryption_method.value());
  TRY_VOID(parse_compression(raw, header_length, &header));
  TRY_VOID(parse_backing_name(cluster0, raw, &header));
  TRY_VOID(check_data_file(header));
  header.geometry.external_data = header.has(format::kExternalData);
  header.geometry.extended_l2 = header.has(format::kExtendedL2);
  if (header.geometry.extended_l2 && cluster_size < format::kMinExtendedCluster) {
    return make_error(ErrorKind::kCorrupt, "Unsupported cluster size: {} with extended L2 entries",
                      cluster_size);
  }
  if (const Extension* name = header.find(format::kExtBackingFormat)) {
    header.backing_format = to_text(name->data);
  }
  return header;
}

namespace {

// A table may end inside the last cluster, behind the end of the file: what is missing is zero.
bool is_placed(const Geometry& g, uint64_t file_size, uint64_t offset, uint64_t length) {
  const uint64_t limit =
      std::min(align_up(std::min(file_size, format::kMaxHostOffset), g.cluster_size()),
               format::kMaxHostOffset);
  return g.is_cluster_aligned(offset) && offset != 0 && offset <= limit && length <= limit - offset;
}

}  // namespace

Result<void> validate_snapshot_table(const Header& header, uint64_t file_size) {
  if (header.snapshot_count > format::kMaxSnapshots) {
    return Error(ErrorKind::kCorrupt, EFBIG, "Snapshot table too large");
  }
  const uint64_t least = header.snapshot_count * sizeof(format::SnapshotEntry);
  if (header.snapshot_count != 0 &&
      !is_placed(header.geometry, file_size, header.snapshots_offset, least)) {
    return Error(ErrorKind::kCorrupt, EINVAL, "Snapshot table offset invalid");
  }
  return {};
}

Result<void> validate_tables(const Header& header, uint64_t file_size, bool with_snapshots) {
  const Geometry& g = header.geometry;
  auto placed = [&](uint64_t offset, uint64_t length) {
    return is_placed(g, file_size, offset, length);
  };
  if (header.refcount_table_clusters == 0) {
    return make_error(ErrorKind::kCorrupt, "Image does not contain a reference count table");
  }
  uint64_t table_bytes = uint64_t{header.refcount_table_clusters} << g.cluster_bits;
  if (table_bytes > format::kMaxRefcountTableBytes) {
    return make_error(ErrorKind::kCorrupt, "Reference count table too large");
  }
  if (!placed(header.refcount_table_offset, table_bytes)) {
    return make_error(ErrorKind::kCorrupt, "Reference count table offset invalid");
  }
  if (with_snapshots) TRY_VOID(validate_snapshot_table(header, file_size));
  uint64_t l1_bytes = uint64_t{header.l1_entries} * 8;
  if (l1_bytes > format::kMaxL1Bytes) {
    return make_error(ErrorKind::kCorrupt, "Active L1 table too large");
  }
  if (header.l1_entries != 0 && !placed(header.l1_offset, l1_bytes)) {
    return make_error(ErrorKind::kCorrupt, "Active L1 table offset invalid");
  }
  uint64_t needed = g.l1_entries_for(header.size);
  if (needed > format::kMaxL1Bytes / 8) {
    return make_error(ErrorKind::kNoSpace, "Image is too big");
  }
  if (header.l1_entries < needed) {
    return make_error(ErrorKind::kCorrupt, "L1 table is too small");
  }
  return {};
}

void patch_fields(const Header& header, std::span<uint8_t> raw_bytes) {
  format::Header raw{};
  size_t n = std::min(raw_bytes.size(), sizeof raw);
  std::memcpy(&raw, raw_bytes.data(), n);
  raw.size = header.size;
  raw.l1_entries = header.l1_entries;
  raw.l1_offset = header.l1_offset;
  raw.refcount_table_offset = header.refcount_table_offset;
  raw.refcount_table_clusters = header.refcount_table_clusters;
  raw.snapshot_count = header.snapshot_count;
  raw.snapshots_offset = header.snapshots_offset;
  if (header.geometry.version >= 3) {
    raw.incompatible_features = header.incompatible;
    raw.compatible_features = header.compatible;
    raw.autoclear_features = header.autoclear;
    raw.refcount_order = header.geometry.refcount_order;
  }
  std::memcpy(raw_bytes.data(), &raw, n);
}

Result<std::vector<uint8_t>> serialize_header(const Header& header) {
  const uint64_t cluster_size = header.geometry.cluster_size();
  std::vector<Extension> extensions = ordered_extensions(header);
  if (header.geometry.version >= 3 && header.find(format::kExtFeatureNames) == nullptr) {
    extensions.push_back({format::kExtFeatureNames, feature_name_table()});
    sort_extensions(&extensions);
  }

  size_t tail = sizeof(ExtensionHeader) + (header.backing_name ? header.backing_name->size() : 0);
  size_t needed = serialize_fields(header).size() + tail;
  for (const Extension& extension : extensions) {
    needed += sizeof(ExtensionHeader) + align_up(extension.data.size(), 8);
  }
  // Names of features are for people: they go where nothing else would fit.
  auto names = std::find_if(extensions.begin(), extensions.end(),
                            [](const Extension& e) { return e.type == format::kExtFeatureNames; });
  if (needed > cluster_size && names != extensions.end()) {
    needed -= sizeof(ExtensionHeader) + align_up(names->data.size(), 8);
    extensions.erase(names);
  }
  if (needed > cluster_size) {
    return make_error(ErrorKind::kNoSpace, "The header does not fit into one cluster of {} bytes",
                      cluster_size);
  }

  std::vector<uint8_t> out = serialize_fields(header);
  for (const Extension& extension : extensions) {
    put_extension(&out, extension.type, extension.data);
  }
  put_extension(&out, format::kExtEnd, {});
  if (header.backing_name) {
    auto* raw = reinterpret_cast<format::Header*>(out.data());
    raw->backing_name_offset = out.size();
    raw->backing_name_length = static_cast<uint32_t>(header.backing_name->size());
    out.insert(out.end(), header.backing_name->begin(), header.backing_name->end());
  }
  return out;
}

std::vector<uint8_t> serialize_short_header(const Header& header, uint64_t name_offset) {
  std::vector<uint8_t> out = serialize_fields(header);
  for (const Extension& extension : ordered_extensions(header)) {
    if (extension.type == format::kExtFeatureNames) continue;
    put_extension(&out, extension.type, extension.data);
  }
  put_extension(&out, format::kExtEnd, {});
  if (header.backing_name) {
    auto* raw = reinterpret_cast<format::Header*>(out.data());
    raw->backing_name_offset = name_offset;
    raw->backing_name_length = static_cast<uint32_t>(header.backing_name->size());
  }
  return out;
}

}  // namespace calf::qcow2
