#include "block/vmdk/image.h"

#include <algorithm>
#include <cerrno>

namespace calf::vmdk {
namespace {

Error read_only_format() {
  return Error(ErrorKind::kReadOnly, EPERM, "vmdk images are only read (convert it to qcow2)");
}

}  // namespace

Async<std::unique_ptr<Image>> Image::open(Executor& executor, std::unique_ptr<block::Node> file,
                                          OpenExtent open_extent) {
  std::unique_ptr<Image> image(new Image(executor, std::move(file)));
  le32 magic;
  std::span<uint8_t> head(reinterpret_cast<uint8_t*>(&magic), sizeof magic);
  FlatIo io(head);
  CO_TRY_VOID(co_await image->file_->read(0, io.slice()));
  if (magic == format::kMagic || magic == format::kMagicCowd) {
    CO_TRY_VOID(co_await image->open_sparse());
  } else {
    std::string text(std::min(image->file_->size(), format::kMaxDescriptor), '\0');
    std::span<uint8_t> to(reinterpret_cast<uint8_t*>(text.data()), text.size());
    FlatIo text_io(to);
    CO_TRY_VOID(co_await image->file_->read(0, text_io.slice()));
    if (!text.starts_with("# Disk DescriptorFile")) {
      co_return Error(ErrorKind::kCorrupt, "invalid VMDK image descriptor");
    }
    CO_TRY(image->descriptor_, parse_descriptor(text));
    CO_TRY_VOID(co_await image->open_parts(std::move(open_extent)));
  }
  if (!image->parts_.empty() && image->parts_[0].sparse) {
    image->limits_.cluster_size = image->parts_[0].sparse->grain_size();
  }
  co_return image;
}

// One file with everything in it.
Async<> Image::open_sparse() {
  Part part;
  part.file = file_.get();
  part.line.kind = ExtentKind::kSparse;
  CO_TRY(part.sparse, co_await SparseExtent::open(*file_));
  CO_TRY(std::optional<std::string> text, co_await part.sparse->read_descriptor());
  if (!text) {
    co_return Error(ErrorKind::kUnsupported,
                    "This is one extent of a vmdk image: open the image's descriptor file");
  }
  CO_TRY(descriptor_, parse_descriptor(*text));
  const std::string& type = descriptor_.create_type;
  if (type != "monolithicSparse" && type != "streamOptimized") {
    co_return make_error(ErrorKind::kUnsupported, "Unsupported image type '{}'",
                         type.substr(0, 100));
  }
  part.range = {0, part.sparse->size()};
  size_ = part.range.length;
  parts_.push_back(std::move(part));
  co_return Result<void>();
}

// Each file once, however many extents it holds.
Async<block::Node*> Image::extent_file(const std::string& name, const OpenExtent& open_extent) {
  for (auto& [known, node] : extent_files_) {
    if (known == name) co_return node.get();
  }
  if (!open_extent) {
    co_return make_error(ErrorKind::kUnsupported,
                         "The extent '{}' is not followed: the descriptor is not a file of this "
                         "host",
                         name);
  }
  CO_TRY(std::unique_ptr<block::Node> node, co_await open_extent(name));
  block::Node* raw = node.get();
  extent_files_.emplace_back(name, std::move(node));
  co_return raw;
}

Async<> Image::open_parts(OpenExtent open_extent) {
  const std::string& type = descriptor_.create_type;
  bool known = type == "monolithicFlat" || type == "twoGbMaxExtentSparse" ||
               type == "twoGbMaxExtentFlat" || type == "vmfs";
  if (!known) {
    co_return make_error(ErrorKind::kUnsupported, "Unsupported image type '{}'",
                         type.substr(0, 100));
  }
  for (const ExtentLine& line : descriptor_.extents) {
    Part part;
    part.line = line;
    part.range = {size_, line.sectors * format::kSector};
    if (line.kind != ExtentKind::kZero) {
      CO_TRY(part.file, co_await extent_file(line.name, open_extent));
    }
    if (line.kind == ExtentKind::kSparse) {
      CO_TRY(part.sparse, co_await SparseExtent::open(*part.file));
      if (part.sparse->size() < part.range.length) {
        co_return make_error(ErrorKind::kCorrupt,
                             "The extent '{}' is shorter than its descriptor "
                             "says",
                             line.name);
      }
    }
    size_ += part.range.length;
    parts_.push_back(std::move(part));
  }
  co_return Result<void>();
}

void Image::set_backing(std::unique_ptr<block::Node> backing) {
  backing_ = std::move(backing);
  auto* parent = dynamic_cast<Image*>(backing_.get());
  wrong_backing_ = parent == nullptr || parent->descriptor_.cid != descriptor_.parent_cid;
}

ImageInfo Image::info() const {
  ImageInfo info{descriptor_.cid, descriptor_.parent_cid, descriptor_.create_type, {}};
  for (const Part& part : parts_) {
    ExtentInfo extent;
    extent.virtual_size = part.range.length;
    extent.filename = part.file != nullptr ? part.file->name() : "";
    extent.format = part.line.kind_text;
    if (part.sparse) {
      extent.compressed = part.sparse->compressed();
      extent.cluster_size = part.sparse->grain_size();
    }
    info.extents.push_back(std::move(extent));
  }
  return info;
}

Async<Image::Piece> Image::locate(ByteRange range) {
  // The part with the first byte: the last that does not begin behind it.
  auto after = std::upper_bound(
      parts_.begin(), parts_.end(), range.offset,
      [](uint64_t offset, const Part& part) { return offset < part.range.offset; });
  const Part& part = *std::prev(after);
  Piece piece;
  piece.part = &part;
  ByteRange inside = range.intersect(part.range);
  ByteRange local{inside.offset - part.range.offset, inside.length};
  if (part.sparse) {
    CO_TRY(piece.run, co_await part.sparse->locate(local));
  } else {
    piece.run.range = local;
    piece.run.kind = GrainKind::kZero;
    if (part.line.kind == ExtentKind::kFlat) {
      piece.run.kind = GrainKind::kPlain;
      piece.run.host_offset = part.line.first_sector * format::kSector + local.offset;
    }
  }
  piece.range = {inside.offset, piece.run.range.length};
  co_return piece;
}

Async<> Image::read_below(uint64_t offset, IoSlice to) {
  if (wrong_backing_) {
    co_return Error(ErrorKind::kInvalid, EINVAL,
                    "The parent of the vmdk image was changed after the image was made on it");
  }
  uint64_t below = backing_ ? backing_->size() : 0;
  size_t there =
      static_cast<size_t>(std::min<uint64_t>(to.size(), below - std::min(below, offset)));
  to.slice(there, to.size() - there).fill(0);
  if (there == 0) co_return Result<void>();
  co_return co_await backing_->read(offset, to.slice(0, there));
}

Async<> Image::read(uint64_t offset, IoSlice to) {
  size_t done = 0;
  while (done < to.size()) {
    ByteRange rest{offset + done, to.size() - done};
    CO_TRY(Piece piece, co_await locate(rest));
    IoSlice part = to.slice(done, static_cast<size_t>(piece.range.length));
    switch (piece.run.kind) {
      case GrainKind::kUnallocated:
        CO_TRY_VOID(co_await read_below(piece.range.offset, part));
        break;
      case GrainKind::kZero:
        part.fill(0);
        break;
      case GrainKind::kPlain:
        CO_TRY_VOID(co_await piece.part->file->read(piece.run.host_offset, part));
        break;
      case GrainKind::kCompressed: {
        SparseExtent& sparse = *piece.part->sparse;
        uint64_t skip = piece.run.range.offset % sparse.grain_size();
        CO_TRY_VOID(co_await sparse.read_compressed(executor_, piece.run.host_offset, skip, part));
        break;
      }
    }
    done += part.size();
  }
  co_return Result<void>();
}

Async<block::Extent> Image::map(ByteRange range) {
  CO_TRY(Piece piece, co_await locate(range));
  block::Extent extent;
  extent.range = piece.range;
  extent.allocated = piece.run.kind != GrainKind::kUnallocated;
  extent.zero = piece.run.kind == GrainKind::kZero;
  extent.encoded = piece.run.kind == GrainKind::kCompressed;
  extent.data = piece.run.kind == GrainKind::kPlain || extent.encoded;
  if (piece.run.kind == GrainKind::kPlain) {
    extent.host_offset = piece.run.host_offset;
    extent.host_file = &piece.part->file->name();
    // A flat file has holes of its own.
    bool flat = piece.part->line.kind == ExtentKind::kFlat;
    uint64_t file_size = piece.part->file->size();
    if (flat && piece.run.host_offset < file_size) {
      ByteRange host{piece.run.host_offset, piece.range.length};
      CO_TRY(block::Extent below, co_await piece.part->file->map(host.intersect({0, file_size})));
      extent.range.length = std::min(extent.range.length, below.range.length);
      extent.zero = below.zero;
    } else if (flat) {
      extent.zero = true;
    }
  }
  co_return extent;
}

Async<> Image::write(uint64_t, IoSlice, block::WriteFlags) {
  co_return read_only_format();
}
Async<> Image::write_zeroes(ByteRange, block::ZeroFlags) {
  co_return read_only_format();
}
Async<> Image::discard(ByteRange) {
  co_return read_only_format();
}
Async<> Image::flush() {
  co_return Result<void>();
}
Async<> Image::truncate(uint64_t, block::Preallocation) {
  co_return read_only_format();
}

Async<> Image::close() {
  Result<void> result;
  for (auto& [name, node] : extent_files_) {
    Result<void> closed = co_await node->close();
    if (result.ok()) result = std::move(closed);
  }
  Result<void> closed = co_await file_->close();
  if (result.ok()) result = std::move(closed);
  if (backing_) {
    closed = co_await backing_->close();
    if (result.ok()) result = std::move(closed);
  }
  co_return result;
}

}  // namespace calf::vmdk
