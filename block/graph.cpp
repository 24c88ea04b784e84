#include "block/graph.h"

#include <sys/stat.h>

#include <algorithm>
#include <vector>

#include "block/base_fingerprint.h"
#include "block/file_node.h"
#include "block/open_gate.h"
#include "block/probe.h"
#include "block/write_through.h"

namespace calf::block {
namespace {

Async<std::string> probe_node(Node& file) {
  std::vector<uint8_t> head(kProbeBytes);
  FlatIo io{std::span<uint8_t>(head)};
  CO_TRY_VOID(co_await file.read(0, io.slice()));
  co_return std::string(probe_format(head));
}

// One image of the chain while it is being opened.
struct LayerSpec {
  std::string path;
  std::optional<std::string> format;
  Probing probing = Probing::kNever;
  bool writable = false;
  bool is_base = false;
  // Of a base: the image above it, and what that one says.
  std::string overlay;
  BackingReference reference;
};

// Opens the layers from the top down; what they have in common lives here.
class ChainOpener {
 public:
  ChainOpener(Executor& executor, const FormatTable& formats, const OpenSpec& spec)
      : executor_(executor), formats_(formats), spec_(spec) {}

  Async<std::unique_ptr<Node>> open();

 private:
  Async<> open_layers();
  Async<OpenedFormat> open_layer(LayerSpec layer);
  Async<std::unique_ptr<FileNode>> open_file(const LayerSpec& layer);
  Async<std::unique_ptr<Node>> open_data_file(LayerSpec layer, std::string recorded);
  Async<const FormatDriver*> choose_driver(LayerSpec& layer, Node& file, bool* probed);
  Result<LayerSpec> layer_below(const std::string& overlay, const char* overlay_format,
                                const BackingReference& reference) const;
  Async<> check_base(const LayerSpec& layer, FileNode& file, const FormatDriver& driver);
  // Fails if the file is one of those above.
  Result<void> note_file(const std::string& path, const FileNode* file);

  Executor& executor_;
  const FormatTable& formats_;
  const OpenSpec& spec_;
  std::vector<FileId> files_;
  std::vector<OpenedFormat> layers_;
};

void warn_guessed_raw(const MessageSink& message, const std::string& path) {
  if (!message) return;
  message(fmt::format("WARNING: Image format was not specified for '{}' and probing guessed raw.",
                      path));
  message(
      "         Automatically detecting the format is dangerous for raw images, write "
      "operations on block 0 will be restricted.");
  message("         Specify the 'raw' format explicitly to remove the restrictions.");
}

Async<const FormatDriver*> ChainOpener::choose_driver(LayerSpec& layer, Node& file, bool* probed) {
  *probed = false;
  if (!layer.format) {
    CO_TRY(std::string guess, co_await probe_node(file));
    bool allowed =
        layer.probing == Probing::kAny || (layer.probing == Probing::kNotRaw && guess != "raw");
    if (!allowed) {
      if (guess == "raw") {
        co_return make_error(ErrorKind::kInvalid,
                             "Its format was not given and it has no header of a known one. If "
                             "it is a raw image, say format=raw");
      }
      co_return make_error(ErrorKind::kInvalid,
                           "Its format was not given, and guessing it is not safe. It looks like "
                           "{0}: if that is what it is, say format={0}",
                           guess);
    }
    *probed = true;
    layer.format = std::move(guess);
    if (*layer.format == "raw" && layer.writable) warn_guessed_raw(spec_.message, layer.path);
  }
  const FormatDriver* driver = formats_.find(*layer.format);
  if (driver == nullptr) {
    co_return make_error(ErrorKind::kUnsupported, "Unknown driver '{}'", *layer.format);
  }
  co_return driver;
}

Result<void> ChainOpener::note_file(const std::string& path, const FileNode* file) {
  FileId id;
  if (file != nullptr) {
    id = file->id();
  } else {
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) return {};  // the open will say why
    id = S_ISBLK(st.st_mode) ? FileId{st.st_rdev, 0} : FileId{st.st_dev, st.st_ino};
  }
  if (std::find(files_.begin(), files_.end(), id) != files_.end()) {
    return make_error(ErrorKind::kCorrupt, "Backing file '{}' creates an infinite loop.", path);
  }
  if (file != nullptr) files_.push_back(id);
  return {};
}

// What an overlay holds fits the base it was made on. Writing to it on another one makes things
// worse; reading may be what rescues the data.
Async<> ChainOpener::check_base(const LayerSpec& layer, FileNode& file,
                                const FormatDriver& driver) {
  if (!layer.reference.fingerprint || spec_.accept_changed_base) co_return Result<void>();
  std::vector<uint8_t> noted = *layer.reference.fingerprint;
  CO_TRY(bool same,
         co_await is_same_base(executor_, file, driver, std::move(noted), layer.reference.name));
  if (same) co_return Result<void>();
  std::string text =
      fmt::format("'{}' was changed after '{}' was made on top of it: the overlay no longer fits",
                  layer.path, layer.overlay);
  if (spec_.writable) {
    co_return make_error(ErrorKind::kInvalid,
                         "{}\nIf the change is all right: calf-img rebase -u -b '{}' -F {} '{}'",
                         text, layer.reference.name, driver.name(), layer.overlay);
  }
  if (spec_.message) spec_.message("warning: " + text);
  co_return Result<void>();
}

Async<OpenedFormat> ChainOpener::open_layer(LayerSpec layer) {
  // A name that is unknown needs no look at the file.
  if (layer.format && formats_.find(*layer.format) == nullptr) {
    co_return make_error(ErrorKind::kUnsupported, "Unknown driver '{}'", *layer.format);
  }
  CO_TRY(std::unique_ptr<FileNode> file, co_await open_file(layer));

  bool probed = false;
  CO_TRY(const FormatDriver* driver, co_await choose_driver(layer, *file, &probed));
  Role role = layer.is_base ? Role::kBase : spec_.share_raw ? Role::kSharedDisk : Role::kDisk;
  LockRequest lock = driver->lock_request(layer.writable, role);
  if (spec_.force_share) lock.refuses = 0;
  CO_TRY_VOID(file->lock(lock));
  CO_TRY_VOID(co_await check_base(layer, *file, *driver));

  FormatOptions format_options;
  format_options.writable = layer.writable;
  format_options.probed = probed;
  format_options.no_flush = spec_.cache.no_flush;
  format_options.info_only = spec_.info_only;
  format_options.for_check = spec_.for_check && !layer.is_base;
  format_options.message = spec_.message;
  const bool wants_data = !format_options.info_only && !format_options.for_check;
  std::unique_ptr<Node> node = std::move(file);
  CO_TRY(OpenedFormat opened,
         co_await driver->open(executor_, std::move(node), std::move(format_options)));
  if (opened.data_file && wants_data) {
    Result<std::unique_ptr<Node>> data = co_await open_data_file(layer, *opened.data_file);
    if (!data.ok()) {
      Result<void> ignored = co_await opened.node->close();
      co_return std::move(data.error());
    }
    opened.set_data_file(std::move(*data));
  }
  co_return opened;
}

Async<std::unique_ptr<FileNode>> ChainOpener::open_file(const LayerSpec& layer) {
  // Asked before the open and again after it: the first answer keeps our own lock out of the error.
  CO_TRY_VOID(note_file(layer.path, nullptr));
  FileOptions options{.writable = layer.writable, .cache = spec_.cache, .discard = spec_.discard};
  CO_TRY(std::unique_ptr<FileNode> file, co_await FileNode::open(executor_, layer.path, options));
  CO_TRY_VOID(note_file(layer.path, file.get()));
  co_return file;
}

Async<std::unique_ptr<Node>> ChainOpener::open_data_file(LayerSpec layer, std::string recorded) {
  if (recorded.empty()) {
    co_return make_error(ErrorKind::kInvalid, "'data-file' is required for this image");
  }
  CO_TRY(layer.path, resolve_recorded_name(layer.path, recorded));
  CO_TRY(std::unique_ptr<FileNode> file, co_await open_file(layer));
  // Whoever writes it behind the image's back destroys the disk.
  LockRequest lock = layer.writable ? kLockFormatWriter : kLockFormatReader;
  if (spec_.force_share) lock.refuses = 0;
  CO_TRY_VOID(file->lock(lock));
  std::unique_ptr<Node> node = std::move(file);
  co_return node;
}

Result<LayerSpec> ChainOpener::layer_below(const std::string& overlay, const char* overlay_format,
                                           const BackingReference& reference) const {
  LayerSpec below;
  below.is_base = true;
  below.overlay = overlay;
  below.reference = reference;
  TRY(below.path, resolve_recorded_name(overlay, reference.name));
  if (!reference.format) {
    return make_error(
        ErrorKind::kInvalid,
        "'{0}' does not record the format of its backing file '{1}', and guessing it is not safe. "
        "Record it: calf-img rebase -u -f {2} -F FORMAT -b '{1}' '{0}'",
        overlay, reference.name, overlay_format);
  }
  below.format = reference.format;
  return below;
}

// From the top to the base, in a loop: the chain is as long as its images say.
Async<> ChainOpener::open_layers() {
  LayerSpec layer;
  layer.path = spec_.filename;
  layer.format = spec_.format;
  layer.probing = spec_.probing;
  layer.writable = spec_.writable;
  std::string nesting;
  while (true) {
    std::string path = layer.path;
    Result<OpenedFormat> opened = co_await open_layer(std::move(layer));
    if (!opened.ok()) {
      std::string text = nesting + opened.error().message();
      co_return Error(opened.error().kind(), opened.error().sys_errno(), std::move(text));
    }
    layers_.push_back(std::move(*opened));
    const OpenedFormat& last = layers_.back();
    if (!last.backing || !spec_.open_backing) co_return Result<void>();
    nesting += "Could not open backing file: ";
    if (layers_.size() >= kMaxChainDepth) {
      co_return make_error(ErrorKind::kCorrupt, "The chain of backing files is longer than {}",
                           kMaxChainDepth);
    }
    Result<LayerSpec> below = layer_below(path, last.node->format(), *last.backing);
    if (!below.ok()) co_return Error(below.error().kind(), nesting + below.error().message());
    layer = std::move(*below);
  }
}

Async<std::unique_ptr<Node>> ChainOpener::open() {
  Result<void> opened = co_await open_layers();
  if (!opened.ok()) {
    // The top may be writable and marked as in use: leave it as it was. The first error counts.
    for (OpenedFormat& layer : layers_) {
      Result<void> ignored = co_await layer.node->close();
    }
    co_return std::move(opened.error());
  }
  for (size_t i = layers_.size() - 1; i > 0; --i) {
    layers_[i - 1].set_backing(std::move(layers_[i].node));
  }
  co_return std::move(layers_[0].node);
}

}  // namespace

Async<std::unique_ptr<Node>> open_chain(Executor& executor, const FormatTable& formats,
                                        OpenSpec spec) {
  Result<std::unique_ptr<Node>> opened(std::unique_ptr<Node>{});
  if (spec.force_share && spec.writable) {
    opened =
        make_error(ErrorKind::kInvalid, "force-share=on can only be used with read-only images");
  } else {
    ChainOpener opener(executor, formats, spec);
    opened = co_await opener.open();
  }
  if (!opened.ok()) {
    co_return std::move(opened.error())
        .with_context(fmt::format("Could not open '{}'", spec.filename));
  }
  std::unique_ptr<Node> node = std::move(*opened);
  if (spec.cache.write_through) node = std::make_unique<WriteThroughNode>(std::move(node));
  co_return node;
}

Async<std::string> probe_file(Executor& executor, std::string path) {
  FileOptions options;
  CO_TRY(std::unique_ptr<FileNode> file,
         co_await FileNode::open(executor, std::move(path), options));
  co_return co_await probe_node(*file);
}

}  // namespace calf::block
