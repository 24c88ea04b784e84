#include "block/qcow2/new_tables.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "block/qcow2/l2_entry.h"
#include "block/qcow2/refcount.h"

namespace calf::qcow2 {
namespace {

// Stays in the processor's cache between being composed and being written.
constexpr uint64_t kPieceBytes = uint64_t{1} << 20;

// Some bytes of the file, zeroes at first. All tables begin at sectors, and pieces do, so no entry
// is in two of them.
struct Piece {
  std::span<uint8_t> bytes;
  uint64_t offset = 0;
};

// The part of a table that is in a piece: `count` of its entries from `first` on, each
// 2^`entry_bits_order` bits wide.
struct Part {
  uint8_t* bytes = nullptr;
  uint64_t first = 0;
  uint64_t count = 0;
};

Part part_of(const Piece& piece, uint64_t table, uint64_t entries, unsigned entry_bits_order) {
  const ByteRange all{table, div_round_up(entries << entry_bits_order, 8)};
  const ByteRange inside = all.intersect({piece.offset, piece.bytes.size()});
  if (inside.empty()) return {};
  Part part;
  part.bytes = piece.bytes.data() + (inside.offset - piece.offset);
  part.first = (inside.offset - table) << 3 >> entry_bits_order;
  part.count = std::min(inside.length << 3 >> entry_bits_order, entries - part.first);
  return part;
}

void fill_counts(const Piece& piece, const NewLayout& layout) {
  const unsigned order = layout.geometry.refcount_order;
  const Part part = part_of(piece, layout.refcount_blocks().offset, layout.total(), order);
  set_counts(part.bytes, 0, part.count, order, 1);
}

// A table of pointers to `count` clusters that follow each other; `first_entry` leads to the first.
void fill_pointers(const Piece& piece, uint64_t table, uint64_t count, uint64_t first_entry,
                   const Geometry& g) {
  constexpr unsigned kEntryBitsOrder = 6;
  const Part part = part_of(piece, table, count, kEntryBitsOrder);
  auto* entries = reinterpret_cast<be64*>(part.bytes);
  for (uint64_t i = 0; i < part.count; ++i)
    entries[i] = first_entry + ((part.first + i) << g.cluster_bits);
}

void fill_refcount_table(const Piece& piece, const NewLayout& layout) {
  fill_pointers(piece, layout.refcount_table().offset, layout.blocks,
                layout.refcount_blocks().offset, layout.geometry);
}

void fill_l1(const Piece& piece, const NewLayout& layout) {
  const L1Entry first{layout.l2().offset, true, false};
  fill_pointers(piece, layout.l1_table().offset, layout.l1_entries, first.encode(),
                layout.geometry);
}

// The entry of the disk's first cluster. In the others only the place differs.
RawL2Entry first_entry(const CreateOptions& options, const NewLayout& layout) {
  const Geometry& g = layout.geometry;
  // A data file has each cluster at the guest's offset.
  const uint64_t place = g.external_data ? 0 : layout.data();
  // Subclusters wait for their first write, as the backing node may have something there.
  if (g.extended_l2) return L2Entry::at(place, true, 0, 0).encode(g);
  // Zeroes in the file are not zeroes of an encrypted disk.
  if (options.encrypt) return L2Entry::zero_alloc(place).encode(g);
  return L2Entry::data(place).encode(g);
}

// The tables follow each other and are full, all but the last one, so they are filled as one.
void fill_l2(const Piece& piece, const NewLayout& layout, RawL2Entry entry) {
  const Geometry& g = layout.geometry;
  const unsigned entry_bits_order = g.l2_entry_bits() + 3;
  const Part part = part_of(piece, layout.l2().offset, layout.mapped_clusters, entry_bits_order);
  auto* entries = reinterpret_cast<be64*>(part.bytes);
  entry.descriptor += part.first << g.cluster_bits;
  for (uint64_t i = 0; i < part.count; ++i) {
    store_l2_entry(entries, i, entry, g);
    entry.descriptor += g.cluster_size();
  }
}

}  // namespace

Async<> write_new_tables(block::Node& file, const CreateOptions& options, const NewLayout& layout) {
  const RawL2Entry entry = first_entry(options, layout);
  std::vector<uint8_t> buffer(kPieceBytes);
  for (uint64_t at = layout.refcount_table().offset; at < layout.data();) {
    Piece piece{std::span(buffer).first(std::min(kPieceBytes, layout.data() - at)), at};
    std::fill(piece.bytes.begin(), piece.bytes.end(), uint8_t{0});
    fill_refcount_table(piece, layout);
    fill_counts(piece, layout);
    fill_l1(piece, layout);
    fill_l2(piece, layout, entry);
    FlatIo io(std::span<const uint8_t>{piece.bytes});
    CO_TRY_VOID(co_await file.write(at, io.slice(), {}));
    at += piece.bytes.size();
  }
  co_return Result<void>();
}

}  // namespace calf::qcow2
