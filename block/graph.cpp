#include "block/graph.h"

#include <filesystem>
#include <vector>

#include "block/base/log.h"
#include "block/file_node.h"
#include "block/layer_opener.h"
#include "block/open_gate.h"
#include "block/write_through.h"

namespace calf::block {
namespace {

// Opens the layers from the top down; what they have in common lives here.
class ChainOpener {
 public:
  ChainOpener(Executor& executor, const FormatTable& formats, const OpenSpec& spec)
      : spec_(spec), layer_opener_(executor, formats, spec) {}

  Async<std::unique_ptr<Node>> open();

 private:
  Async<> open_layers();
  // What stands below `layer`; nothing if that is the base.
  Result<std::optional<LayerRequest>> layer_below(OpenedLayer& layer) const;
  Result<std::string> recorded_path(const OpenedLayer& layer) const;
  bool is_write_base(const std::string& overlay, const LayerRequest& below) const;

  const OpenSpec& spec_;
  LayerOpener layer_opener_;
  std::vector<OpenedFormat> layers_;
  bool write_base_found_ = false;
};

// Is `below` the base that OpenSpec::write_base means?
bool ChainOpener::is_write_base(const std::string& overlay, const LayerRequest& below) const {
  if (!spec_.write_base || write_base_found_) return false;
  const std::string& wanted = spec_.write_base_name;
  if (wanted.empty() || wanted == below.reference.name) return true;
  std::optional<std::string> path = below.description.text("file.filename");
  Result<std::string> wanted_path = resolve_recorded_name(overlay, wanted);
  if (!path || !wanted_path.ok()) return false;
  std::error_code unknown;
  return *path == wanted || std::filesystem::equivalent(*path, *wanted_path, unknown);
}

// The backing file that the image names, as a path from here.
Result<std::string> ChainOpener::recorded_path(const OpenedLayer& layer) const {
  const BackingReference& reference = *layer.format.backing;
  if (layer.path.empty()) {
    return make_error(ErrorKind::kUnsupported,
                      "The image does not come from a file of this host, so the name of its "
                      "backing file, '{}', is not followed. Give it: backing.driver=FORMAT,"
                      "backing.file.filename=FILE in --image-opts or a json: name",
                      reference.name);
  }
  return resolve_recorded_name(layer.path, reference.name);
}

Result<std::optional<LayerRequest>> ChainOpener::layer_below(OpenedLayer& layer) const {
  std::optional<LayerRequest> none;
  if (!spec_.open_backing || layer.no_backing) return none;
  const std::optional<BackingReference>& reference = layer.format.backing;
  if (!reference && !layer.backing) return none;
  LayerRequest below;
  below.is_base = true;
  if (reference) below.format = reference->format;
  if (layer.backing) {
    below.description = std::move(*layer.backing);
    // The user's word counts more than the image's.
    if (below.description.has("driver")) below.format.reset();
  }
  bool whole = below.description.has_child("file") || below.description.has("driver");
  if (reference && !below.description.has_child("file") &&
      (!whole || layer_opener_.is_format(below.description.text("driver").value_or("")))) {
    TRY(std::string path, recorded_path(layer));
    below.description.set_child("file", NodeDescription::of_file(std::move(path)));
    below.overlay = layer.path;
    below.reference = *reference;
  }
  if (!below.format && !below.description.has("driver")) {
    if (layer.backing) {
      return Error(ErrorKind::kInvalid,
                   "The format of the backing file is not known, and guessing it is not safe. Say "
                   "backing.driver=FORMAT");
    }
    const std::string& overlay = layer.path;
    return make_error(
        ErrorKind::kInvalid,
        "'{0}' does not record the format of its backing file '{1}', and guessing it is not safe. "
        "Record it: calf-img rebase -u -f {2} -F FORMAT -b {3} {4}",
        overlay, reference->name, layer.format.node->format(), quote_for_shell(reference->name),
        quote_for_shell(overlay));
  }
  return std::optional<LayerRequest>(std::move(below));
}

// From the top to the base, in a loop: the chain is as long as its images say.
Async<> ChainOpener::open_layers() {
  LayerRequest request;
  request.description = spec_.node.value_or(NodeDescription());
  if (!spec_.node) {
    request.description.set_child("file", NodeDescription::of_file(spec_.filename));
  }
  request.format = spec_.format;
  request.probing = spec_.probing;
  request.writable = spec_.writable;
  std::string nesting;
  while (true) {
    Result<OpenedLayer> opened = co_await layer_opener_.open(std::move(request));
    if (!opened.ok()) {
      std::string text = nesting + opened.error().message();
      co_return Error(opened.error().kind(), opened.error().sys_errno(), std::move(text));
    }
    const std::string path = opened->path;
    Result<std::optional<LayerRequest>> below = layer_below(*opened);
    layers_.push_back(std::move(opened->format));
    if (!below.ok()) {
      std::string text = nesting + "Could not open backing file: " + below.error().message();
      co_return Error(below.error().kind(), std::move(text));
    }
    if (!*below) co_return Result<void>();
    nesting += "Could not open backing file: ";
    if (layers_.size() >= kMaxChainDepth) {
      co_return make_error(ErrorKind::kCorrupt, "The chain of backing files is longer than {}",
                           kMaxChainDepth);
    }
    request = std::move(**below);
    request.writable = is_write_base(path, request);
    write_base_found_ |= request.writable;
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
  if (spec.force_share && spec.node && spec.node->text("force-share") == "off") {
    co_return Error(ErrorKind::kInvalid, "--force-share/-U conflicts with image options");
  }
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
