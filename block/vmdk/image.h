// Image: a vmdk disk as a read-only node.
//
//     descriptor ── extent 0: x-s001.vmdk (sparse)     | the disk is its extents,
//                   extent 1: x-s002.vmdk (sparse)     | one after another
//                   …                                  v
//
// Read: monolithicSparse, streamOptimized (grain markers, footer), monolithicFlat,
// twoGbMaxExtentSparse, twoGbMaxExtentFlat, vmfs flat files, and chains of them by parentCID.
// Refused by name: COWD, SESPARSE, VMFSSPARSE, raw devices, other compression than deflate, extents
// outside of the descriptor's folder. Writing: convert to qcow2.
//
// Spec: VMware, Virtual Disk Format 1.1.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "block/node.h"
#include "block/vmdk/descriptor.h"
#include "block/vmdk/sparse_extent.h"

namespace calf::vmdk {

// Opens the file `name`, which stands beside the descriptor.
using OpenExtent = std::function<Async<std::unique_ptr<block::Node>>(std::string name)>;

struct ExtentInfo {
  bool compressed = false;
  uint64_t virtual_size = 0;
  std::string filename;
  // 0 if it has none.
  uint32_t cluster_size = 0;
  // As in the descriptor; empty for a file that is extent and descriptor in one.
  std::string format;
};

struct ImageInfo {
  uint32_t cid = 0;
  uint32_t parent_cid = kNoParent;
  std::string create_type;
  std::vector<ExtentInfo> extents;
};

class Image final : public block::Node {
 public:
  // Takes the file over, which holds the descriptor. `open_extent` may be null: then extents in
  // other files are refused.
  static Async<std::unique_ptr<Image>> open(Executor& executor, std::unique_ptr<block::Node> file,
                                            OpenExtent open_extent);

  // The image below as recorded; never resolved, never trusted.
  const std::optional<std::string>& parent() const { return descriptor_.parent_hint; }
  // Reads through it fail if its content is not the one that this image was made on.
  void set_backing(std::unique_ptr<block::Node> backing);
  ImageInfo info() const;

  uint64_t size() const override { return size_; }
  const block::Limits& limits() const override { return limits_; }
  bool read_only() const override { return true; }
  Async<> read(uint64_t offset, IoSlice to) override;
  Async<> write(uint64_t offset, IoSlice from, block::WriteFlags flags) override;
  Async<> write_zeroes(ByteRange range, block::ZeroFlags flags) override;
  Async<> discard(ByteRange range) override;
  Async<> flush() override;
  Async<block::Extent> map(ByteRange range) override;
  Async<> truncate(uint64_t size, block::Preallocation preallocation) override;
  Async<> close() override;
  block::Node* backing() const override { return backing_.get(); }
  const std::string& name() const override { return file_->name(); }
  const char* format() const override { return "vmdk"; }

 private:
  // A part of the disk.
  struct Part {
    ByteRange range;
    ExtentLine line;
    // Null for kZero.
    block::Node* file = nullptr;
    // Of kSparse.
    std::unique_ptr<SparseExtent> sparse;
  };
  // A stretch of the disk within one part; for kFlat and kZero in the terms of a sparse one.
  struct Piece {
    const Part* part = nullptr;
    GrainRun run;
    ByteRange range;
  };

  Image(Executor& executor, std::unique_ptr<block::Node> file)
      : executor_(executor), file_(std::move(file)) {}
  Async<> open_sparse();
  Async<> open_parts(OpenExtent open_extent);
  Async<block::Node*> extent_file(const std::string& name, const OpenExtent& open_extent);
  Async<Piece> locate(ByteRange range);
  Async<> read_below(uint64_t offset, IoSlice to);

  Executor& executor_;
  std::unique_ptr<block::Node> file_;
  Descriptor descriptor_;
  std::vector<std::pair<std::string, std::unique_ptr<block::Node>>> extent_files_;
  std::vector<Part> parts_;
  uint64_t size_ = 0;
  block::Limits limits_;
  std::unique_ptr<block::Node> backing_;
  bool wrong_backing_ = false;
};

}  // namespace calf::vmdk
