// The parts of an open image and how they are wired. Internal to block/qcow2.
#pragma once

#include <memory>
#include <string>

#include "block/io/range_lock.h"
#include "block/qcow2/allocator.h"
#include "block/qcow2/bitmap_store.h"
#include "block/qcow2/compressed_reader.h"
#include "block/qcow2/compression.h"
#include "block/qcow2/encryption.h"
#include "block/qcow2/guest_data.h"
#include "block/qcow2/header_file.h"
#include "block/qcow2/health.h"
#include "block/qcow2/host_file.h"
#include "block/qcow2/image.h"
#include "block/qcow2/mapping.h"
#include "block/qcow2/overlap.h"
#include "block/qcow2/refcount.h"
#include "block/qcow2/write_back.h"

namespace calf::qcow2 {

// Everything that reads or writes guest data. Not made for info_only images.
struct Parts {
  Parts(Executor& executor, HostFile& file, HeaderFile& header, Health& health,
        const OpenOptions& options)
      : map(header.get().geometry),
        order(executor),
        refcounts(executor, file, header.get().geometry, health, options.cache_bytes),
        allocator(executor, file, header, refcounts, map, health, order),
        mapping(executor, file, header.get().geometry, options.cache_bytes, refcounts, allocator,
                map, health),
        write_back(executor, file, header, refcounts, allocator, mapping, map, health, order),
        clusters(executor),
        codec(header.get().compression),
        compressed(executor, file, header.get().geometry, codec) {}

  MetadataMap map;
  AsyncMutex order;
  Refcounts refcounts;
  Allocator allocator;
  Mapping mapping;
  WriteBack write_back;
  // Guest clusters: readers and writers in place share, who changes the mapping excludes. Ranges
  // count clusters, not bytes.
  RangeLock clusters;
  Codec codec;
  CompressedReader compressed;
};

struct Image::State {
  State(Executor& ex, std::unique_ptr<block::Node> node, OpenOptions opts)
      : executor(ex),
        options(std::move(opts)),
        file(std::move(node), options.unsafe_no_flush),
        guest_data(ex, file),
        header(ex, file),
        health(options.message, options.writable),
        bitmaps(*this) {}

  Executor& executor;
  OpenOptions options;
  HostFile file;
  // External data file, if the image has one (and it is wanted).
  std::unique_ptr<HostFile> data_file;
  GuestData guest_data;
  HeaderFile header;
  Health health;
  std::vector<SnapshotInfo> snapshots;
  uint64_t snapshot_table_bytes = 0;
  BitmapStore bitmaps;
  block::Limits limits;
  std::unique_ptr<block::Node> backing;
  std::unique_ptr<Parts> parts;
  // Of encrypted images.
  std::optional<crypto::LuksVolume> luks;
  std::unique_ptr<EncryptedGuest> encrypted;
  uint64_t size = 0;
  bool header_says_corrupt = false;
  // The file was changed past what is in memory (amend.h).
  bool left_behind = false;

  const Geometry& geometry() const { return header.get().geometry; }
  // Where clusters of guest data stand.
  HostFile& data() { return data_file ? *data_file : file; }
  const std::string& data_name() const {
    return data_file ? data_file->node().name() : file.node().name();
  }
  // The data file must be a readable raw disk all the time.
  bool data_is_raw() const {
    return (header.get().autoclear & format::kRawExternalData) != 0 && geometry().external_data;
  }
  uint64_t backing_size() const { return backing ? backing->size() : 0; }
  // The guest clusters that `range` touches.
  ByteRange clusters_of(ByteRange range) const {
    const Geometry& g = geometry();
    uint64_t first = g.cluster_index(range.offset);
    return {first, g.cluster_index(range.end() - 1) - first + 1};
  }
  // An error unless the image may be changed now.
  Result<void> check_writable() const;
  // An error unless the range lies inside the disk.
  Result<void> check_range(uint64_t offset, uint64_t length) const;
};

// ---- The operations, one file each ----

// reader.cpp
Async<> read_guest(Image::State& state, uint64_t offset, IoSlice to);
// What the cluster of `entry` holds from guest offset `offset` on (all in one cluster), zeroes past
// the end of the disk. Takes no locks.
Async<> read_cluster_part(Image::State& state, L2Entry entry, uint64_t offset, IoSlice to);
// True if that part is known to be zeroes without reading it.
bool part_reads_zero(const Image::State& state, L2Entry entry, ByteRange part);
// map() without its locks.
Async<block::Extent> map_guest(Image::State& state, ByteRange range);
// The same from the tables in memory; nothing for an entry that breaks the format, too.
std::optional<block::Extent> known_extent(Image::State& state, ByteRange range);

// writer.cpp
Async<> write_guest(Image::State& state, uint64_t offset, IoSlice from,
                    block::WriteFlags flags = {});
// Up to `clusters` clusters for the guest's cluster at `guest` and those behind it: new ones in the
// image, or the very same offsets of an external data file.
Async<Allocator::Allocation> allocate_data(Image::State& state, uint64_t guest, uint64_t clusters);
// Gives them back, if nothing points to them.
Task<void> undo_data(Image::State& state, ByteRange host);

// zero.cpp
Async<> zero_guest(Image::State& state, ByteRange range, bool may_unmap);
Async<> discard_guest(Image::State& state, ByteRange range);

// compressed_writer.cpp
Async<> write_guest_compressed(Image::State& state, uint64_t offset, IoSlice from);

// All guest clusters, for Parts::clusters: no request is under way while they are held.
inline constexpr ByteRange kWholeDisk{0, uint64_t{1} << 62};

// empty.cpp
Async<> make_empty(Image::State& state);
// Ends the file behind the last cluster in use. Everything is written back before. Nobody
// allocates meanwhile.
Async<> cut_file(Image::State& state);

// resize.cpp
Async<> resize(Image::State& state, uint64_t size, block::Preallocation preallocation);

// Maps all of `range` (inside the disk) to clusters that read as zeroes. Not written back.
Async<> preallocate(Image::State& state, ByteRange range, block::Preallocation preallocation);

// check.cpp: counts all references again, for an image whose dirty bit is set, and clears the bit.
Async<> repair_dirty(Image& image);

// What an entry pointed to loses a reference (after the entry was replaced in a writable view).
void release(Image::State& state, const L2Entry& entry, bool punch);

}  // namespace calf::qcow2
