#include "block/layer_opener.h"

#include "block/base/log.h"
#include "block/base_fingerprint.h"
#include "block/detect_zeroes.h"
#include "block/open_gate.h"
#include "block/probe.h"
#include "block/protocol_driver.h"

namespace calf::block {
namespace {

void warn_guessed_raw(const MessageSink& message, const std::string& path) {
  if (!message) return;
  message(fmt::format("WARNING: Image format was not specified for '{}' and probing guessed raw.",
                      path));
  message(
      "         Automatically detecting the format is dangerous for raw images, write "
      "operations on block 0 will be restricted.");
  message("         Specify the 'raw' format explicitly to remove the restrictions.");
}

}  // namespace

Async<std::string> probe_node(Node& file) {
  std::vector<uint8_t> head(kProbeBytes);
  FlatIo io{std::span<uint8_t>(head)};
  CO_TRY_VOID(co_await file.read(0, io.slice()));
  co_return std::string(probe_format(head));
}

Async<const FormatDriver*> LayerOpener::choose_driver(Node& file, const std::string& name,
                                                      bool* probed) {
  CO_TRY(std::string guess, co_await probe_node(file));
  bool allowed = probing_ == Probing::kAny || (probing_ == Probing::kNotRaw && guess != "raw");
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
  if (guess == "raw" && access_.writable) warn_guessed_raw(spec_.message, name);
  const FormatDriver* driver = formats_.find(guess);
  if (driver == nullptr) co_return unknown_driver(guess);
  co_return driver;
}

// What an overlay holds fits the base it was made on. Writing to it on another one makes things
// worse; reading may be what rescues the data.
Async<> LayerOpener::check_base(const LayerRequest& request, FileNode& file,
                                const FormatDriver& driver) {
  if (!request.reference.fingerprint) co_return Result<void>();
  std::vector<uint8_t> noted = *request.reference.fingerprint;
  Result<bool> same =
      co_await is_same_base(executor_, file, driver, std::move(noted), request.reference.name);
  if (!same.ok()) {
    stacks_.tell_damage(same.error(), file.name(), driver);
    co_return std::move(same.error());
  }
  if (*same) co_return Result<void>();
  std::string text =
      fmt::format("'{}' was changed after '{}' was made on top of it: the overlay no longer fits",
                  file.name(), request.overlay);
  if (spec_.writable && !spec_.accept_changed_base) {
    co_return make_error(
        ErrorKind::kInvalid,
        "{}\nIf the change is all right: calf-img rebase -u -b {} -F {} {}\n"
        "To write to the overlay as it is, this once: the option --force of calf-img and "
        "calf",
        text, quote_for_shell(request.reference.name), driver.name(),
        quote_for_shell(request.overlay));
  }
  if (spec_.message) spec_.message("warning: " + text);
  co_return Result<void>();
}

Async<> LayerOpener::open_data_file(OpenedLayer* layer, NodeDescription given,
                                    Inherited inherited) {
  const std::optional<std::string>& recorded = layer->format.data_file;
  if (!recorded) {
    if (given.empty()) co_return Result<void>();
    co_return Error(ErrorKind::kInvalid,
                    "'data-file' can only be set for images with an external data file");
  }
  if (spec_.info_only || (spec_.for_check && !access_.is_base)) co_return Result<void>();
  if (given.empty()) {
    if (recorded->empty() || layer->path.empty()) {
      co_return Error(ErrorKind::kInvalid, "'data-file' is required for this image");
    }
    CO_TRY(std::string path, resolve_recorded_name(layer->path, *recorded));
    given = NodeDescription::of_file(std::move(path));
  }
  CO_TRY(StackOpener::Stack stack, co_await stacks_.open(std::move(given), inherited, 1));
  // Whoever writes it behind the image's back destroys the disk.
  stack.lock = kLockFormatReader;
  if (access_.writable) stack.lock = kLockFormatWriter;
  CO_TRY_VOID(stacks_.lock(stack, inherited));
  layer->format.set_data_file(std::move(stack.node));
  co_return Result<void>();
}

// Puts -f in its place: it says what the driver is, whatever the name said.
Result<void> LayerOpener::normalise(LayerRequest* request) const {
  NodeDescription& description = request->description;
  if (request->format) {
    const std::string& format = *request->format;
    bool not_a_format = is_file_driver(format) || formats_.find_protocol(format) != nullptr ||
                        formats_.find_filter(format) != nullptr;
    // "-f file x", "-f null-co null-co://": the node of the protocol alone.
    if (not_a_format && description.text("file.driver") == format) {
      TRY(NodeDescription alone, description.take_child("file"));
      description = std::move(alone);
    }
    description.set("driver", format);
  }
  if (!description.has("driver") && !description.has_child("file")) {
    return Error(ErrorKind::kInvalid, "Must specify either driver or file");
  }
  return {};
}

Result<void> LayerOpener::take_backing(NodeDescription* description, OpenedLayer* layer) const {
  // Without a look below, what is said about it is an option too many, but "none" is not.
  const OptionValue* value = description->find("backing");
  if (value != nullptr &&
      (std::holds_alternative<std::nullptr_t>(*value) || *value == OptionValue(std::string()))) {
    description->take("backing");
    layer->no_backing = true;
    return {};
  }
  if (!spec_.open_backing || !description->has_child("backing")) return {};
  Result<NodeDescription> backing = description->take_child("backing");
  if (!backing.ok()) return std::move(backing.error()).with_context("Could not open backing file");
  layer->backing = std::move(*backing);
  return {};
}

Result<void> LayerOpener::check_access(const GenericOptions& generic) const {
  if (!access_.writable) return {};
  if (generic.inherited.force_share) {
    return Error(ErrorKind::kInvalid, "force-share=on can only be used with read-only images");
  }
  if (generic.read_only.value_or(false)) {
    return Error(ErrorKind::kReadOnly, "Block node is read-only");
  }
  return {};
}

void LayerOpener::detect_zeroes(const GenericOptions& generic, OpenedLayer* layer) const {
  if (generic.detect_zeroes == DetectZeroes::kOff || !access_.writable) return;
  bool unmap = generic.detect_zeroes == DetectZeroes::kUnmap;
  std::unique_ptr<Node> below = std::move(layer->format.node);
  layer->format.node = std::make_unique<DetectZeroesNode>(std::move(below), unmap);
}

Async<OpenedLayer> LayerOpener::open(LayerRequest request) {
  access_ = {request.writable, request.is_base};
  stacks_.begin_layer(access_);
  probing_ = request.probing;
  CO_TRY_VOID(normalise(&request));
  NodeDescription description = std::move(request.description);
  Inherited from_spec{spec_.cache, spec_.discard, spec_.force_share};
  // What many overlays share, and nobody writes, is in memory once for all of them, whatever the
  // overlays do with what is theirs alone.
  if (access_.is_base && !access_.writable && spec_.writable) from_spec.cache.direct = false;
  co_return co_await open_disk(request, std::move(description), from_spec, 0);
}

Async<OpenedLayer> LayerOpener::open_disk(const LayerRequest& request, NodeDescription description,
                                          Inherited inherited, unsigned depth) {
  if (depth > kMaxStack) co_return too_deep();
  std::string name = description.text("driver").value_or("");
  const FormatDriver* format = formats_.find(name);
  if (format != nullptr || name.empty()) {
    co_return co_await open_image(request, format, std::move(description), inherited);
  }
  if (const FilterDriver* filter = formats_.find_filter(name)) {
    co_return co_await open_filtered(request, *filter, std::move(description), inherited, depth);
  }
  // A name that is unknown needs no look at the file.
  bool known = is_file_driver(name) || formats_.find_protocol(name) != nullptr;
  if (!known) co_return unknown_driver(name);
  // No format at all: the bytes of a file or a protocol.
  CO_TRY(StackOpener::Stack stack, co_await stacks_.open(std::move(description), inherited, depth));
  stack.lock = kLockSharedReader;
  if (access_.writable) stack.lock = kLockSharedWriter;
  CO_TRY_VOID(stacks_.lock(stack, inherited));
  OpenedLayer layer;
  layer.format.node = std::move(stack.node);
  co_return layer;
}

// What an image says of the one below it holds for the filter on top of it, too.
Async<OpenedLayer> LayerOpener::open_filtered(const LayerRequest& request,
                                              const FilterDriver& filter,
                                              NodeDescription description, Inherited inherited,
                                              unsigned depth) {
  CO_TRY(GenericOptions generic, GenericOptions::take(&description, inherited));
  CO_TRY_VOID(check_access(generic));
  description.take("driver");
  CO_TRY(NodeDescription below, take_filtered(filter, &description));
  CO_TRY(OpenedLayer layer,
         co_await open_disk(request, std::move(below), generic.inherited, depth + 1));
  Result<std::unique_ptr<Node>> opened =
      filter.open(executor_, std::move(layer.format.node), &description);
  Result<void> known = opened.ok() ? refuse_rest(description, filter.name(), false)
                                   : Result<void>(std::move(opened.error()));
  if (opened.ok()) layer.format.node = std::move(*opened);
  if (!known.ok()) {
    Result<void> ignored = co_await layer.format.node->close();
    co_return std::move(known.error());
  }
  detect_zeroes(generic, &layer);
  co_return layer;
}

Async<OpenedLayer> LayerOpener::open_image(const LayerRequest& request, const FormatDriver* driver,
                                           NodeDescription description, Inherited inherited) {
  OpenedLayer layer;
  CO_TRY(GenericOptions generic, GenericOptions::take(&description, inherited));
  CO_TRY_VOID(check_access(generic));
  if (!description.has_child("file")) {
    co_return Error(ErrorKind::kInvalid, "A block device must be specified for \"file\"");
  }
  description.take("driver");
  CO_TRY(NodeDescription below, description.take_child("file"));
  CO_TRY_VOID(take_backing(&description, &layer));
  CO_TRY(NodeDescription data_file, description.take_child("data-file"));
  CO_TRY(StackOpener::Stack stack, co_await stacks_.open(std::move(below), generic.inherited, 1));
  if (stack.file != nullptr) layer.path = stack.file->name();
  std::string name = stack.node->name();
  bool probed = false;
  if (driver == nullptr) {
    CO_TRY(driver, co_await choose_driver(*stack.node, name, &probed));
  }
  Role role = spec_.share_raw && !access_.is_base ? Role::kSharedDisk : Role::kDisk;
  if (access_.is_base && !access_.writable) role = Role::kBase;
  LockRequest wanted = driver->lock_request(access_.writable, role);
  stack.lock.uses |= wanted.uses;
  stack.lock.refuses |= wanted.refuses;
  CO_TRY_VOID(stacks_.lock(stack, generic.inherited));
  if (stack.file != nullptr && stack.node.get() == stack.file) {
    CO_TRY_VOID(co_await check_base(request, *stack.file, *driver));
  }
  CO_TRY(layer.format, co_await stacks_.open_format(*driver, std::move(stack.node), &description,
                                                    generic.inherited, probed, layer.path));
  Result<void> data_opened =
      co_await open_data_file(&layer, std::move(data_file), generic.inherited);
  if (!data_opened.ok()) {
    Result<void> ignored = co_await layer.format.node->close();
    co_return std::move(data_opened.error());
  }
  if (layer.backing && !layer.format.set_backing) {
    Result<void> ignored = co_await layer.format.node->close();
    co_return Error(ErrorKind::kUnsupported, "Driver doesn't support backing files");
  }
  detect_zeroes(generic, &layer);
  co_return layer;
}

}  // namespace calf::block
