#include "block/qcow2/new_layout.h"

#include <algorithm>
#include <bit>

#include "block/qcow2/encryption.h"

namespace calf::qcow2 {

Geometry geometry_of(const CreateOptions& options) {
  Geometry g;
  g.version = options.version;
  g.cluster_bits = static_cast<unsigned>(std::countr_zero(options.cluster_size));
  g.refcount_order = static_cast<unsigned>(std::countr_zero(options.refcount_bits));
  g.extended_l2 = options.extended_l2;
  g.external_data = options.data_file.has_value();
  return g;
}

NewLayout lay_out(const CreateOptions& options, bool mapped) {
  NewLayout out;
  const Geometry g = geometry_of(options);
  out.geometry = g;
  const uint64_t size = align_up(options.size, 512);
  out.l1_entries = g.l1_entries_for(size);
  out.luks_bytes = encryption_header_bytes(options);
  if (mapped) {
    out.l2_tables = out.l1_entries;
    out.mapped_clusters = g.clusters_for(size);
    out.data_clusters = g.external_data ? 0 : out.mapped_clusters;
  }
  // The blocks count themselves, too.
  for (;;) {
    const uint64_t blocks = div_round_up(out.total(), g.refcounts_per_block());
    const uint64_t table_clusters = g.clusters_for(blocks * 8);
    if (blocks <= out.blocks && table_clusters <= out.table_clusters) return out;
    out.blocks = std::max(blocks, out.blocks);
    out.table_clusters = std::max(table_clusters, out.table_clusters);
  }
}

Header make_header(const CreateOptions& options, const NewLayout& layout) {
  Header header;
  header.geometry = layout.geometry;
  header.size = align_up(options.size, 512);
  header.refcount_table_offset = layout.refcount_table().offset;
  header.refcount_table_clusters = static_cast<uint32_t>(layout.table_clusters);
  header.l1_entries = static_cast<uint32_t>(layout.l1_entries);
  if (layout.l1_entries != 0) header.l1_offset = layout.l1_table().offset;
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
  if (layout.luks_bytes != 0) {
    header.extensions.push_back(encryption_extension(layout.luks_header()));
  }
  if (options.lazy_refcounts) header.compatible |= format::kLazyRefcounts;
  header.backing_name = options.backing_name;
  header.backing_format = options.backing_format;
  if (options.base_fingerprint) {
    header.extensions.push_back({format::kExtBaseFingerprint, *options.base_fingerprint});
  }
  return header;
}

}  // namespace calf::qcow2
