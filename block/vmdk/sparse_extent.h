// SparseExtent: where the grains of one sparse file are. Reads only metadata.
//
// The directory is kept in memory (its size is bounded by the file's), tables are read when they
// are needed and some of them kept.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "block/io/executor.h"
#include "block/node.h"
#include "block/vmdk/format.h"

namespace calf::vmdk {

enum class GrainKind : uint8_t { kUnallocated, kZero, kPlain, kCompressed };

// A run of bytes of the extent that are stored alike. Compressed runs stay inside one grain.
struct GrainRun {
  GrainKind kind = GrainKind::kUnallocated;
  ByteRange range;
  // kPlain: of the first byte in the file. kCompressed: of the grain's marker.
  uint64_t host_offset = 0;
};

class SparseExtent {
 public:
  // `file` outlives the extent.
  static Async<std::unique_ptr<SparseExtent>> open(block::Node& file);

  uint64_t size() const { return capacity_; }
  uint32_t grain_size() const { return grain_; }
  bool compressed() const { return compressed_; }
  // The embedded descriptor, if there is one.
  Async<std::optional<std::string>> read_descriptor();

  // The longest run that begins at range.offset, `range` lying inside the extent.
  Async<GrainRun> locate(ByteRange range);
  // Unpacks the grain with its marker at `host_offset` and copies what begins at `skip` into `to`.
  Async<> read_compressed(Executor& executor, uint64_t host_offset, uint64_t skip, IoSlice to);

 private:
  using Table = std::vector<le32>;

  explicit SparseExtent(block::Node& file) : file_(file) {}
  Async<format::SparseHeader> read_header();
  Result<void> check(const format::SparseHeader& header) const;
  Async<> read_directory(const format::SparseHeader& header);
  Async<std::shared_ptr<const Table>> table(uint64_t index);
  Result<GrainRun> classify(uint32_t entry, uint64_t grain_start) const;

  block::Node& file_;
  uint64_t capacity_ = 0;
  uint32_t grain_ = 0;
  uint32_t table_entries_ = 0;
  bool zero_grains_ = false;
  bool compressed_ = false;
  ByteRange descriptor_;
  std::vector<le32> directory_;
  // Null for tables that are not there.
  std::unordered_map<uint64_t, std::shared_ptr<const Table>> tables_;
};

}  // namespace calf::vmdk
