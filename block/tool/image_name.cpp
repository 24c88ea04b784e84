#include "block/tool/image_name.h"

#include "block/node_name.h"
#include "block/open_gate.h"
#include "block/shown_name.h"
#include "block/tool/option_list.h"

namespace calf::img {
namespace {

Error cannot_open(const std::string& name, Error why) {
  return std::move(why).with_context(fmt::format("Could not open '{}'", name));
}

// --image-opts: a first element without '=' is the value of `file`.
Result<block::NodeDescription> description_of_list(const std::string& text) {
  TRY(OptionList list, OptionList::parse(text, "file"));
  block::NodeDescription description;
  for (const auto& [key, value] : list.items())
    description.set(key, value);
  return description;
}

}  // namespace

Result<std::string> ImagePlace::resolve(const std::string& recorded) const {
  if (node && !recorded.starts_with('/')) {
    return make_error(ErrorKind::kInvalid,
                      "An image in an export is in no folder: give the whole path of '{}'",
                      recorded);
  }
  return block::resolve_recorded_name(path, recorded);
}

Result<ImagePlace> place_of_name(const std::string& name) {
  if (block::is_plain_path(name)) return ImagePlace{name, std::nullopt};
  std::string protocol = name.substr(0, name.find(':'));
  if (protocol == "file") return ImagePlace{name.substr(protocol.size() + 1), std::nullopt};
  const bool known = block::is_known_protocol(protocol);
  if (known && protocol.starts_with("nbd")) {
    TRY(block::NodeDescription node, block::parse_protocol_name(name));
    return ImagePlace{"", std::move(node)};
  }
  if (known) {
    return make_error(ErrorKind::kUnsupported,
                      "Protocol driver '{}' does not support image creation", protocol);
  }
  return make_error(ErrorKind::kInvalid, "Unknown protocol '{}'", protocol);
}

std::string path_of_spec(const block::OpenSpec& spec) {
  return spec.node ? block::file_below(*spec.node) : spec.filename;
}

std::string shown_name(const block::OpenSpec& spec, std::string_view format) {
  if (!spec.node) return spec.filename;
  block::NodeDescription description = *spec.node;
  if (spec.format) description.set("driver", *spec.format);
  return block::shown_name(description, format);
}

Result<block::OpenSpec> open_spec(const Context& context, const ImageArguments& image) {
  if (image.image_opts && image.format) {
    return Error(ErrorKind::kInvalid, "--image-opts and --format are mutually exclusive");
  }
  block::OpenSpec spec;
  spec.filename = image.name;
  spec.format = image.format;
  bool described = image.image_opts || !block::is_plain_path(image.name);
  if (described) {
    Result<block::NodeDescription> node =
        image.image_opts ? description_of_list(image.name) : block::parse_node_name(image.name);
    if (!node.ok()) return cannot_open(image.name, std::move(node.error()));
    spec.node = std::move(*node);
  }
  spec.probing = block::Probing::kAny;
  spec.share_raw = true;
  spec.accept_changed_base = image.force;
  spec.secrets = &context.secrets;
  const Context* out = &context;
  spec.message = [out](std::string_view line) { out->note(line); };
  return spec;
}

void set_node_option(block::OpenSpec* spec, std::string key, std::string value) {
  if (!spec->node) {
    block::NodeDescription node;
    node.set_child("file", block::NodeDescription::of_file(spec->filename));
    spec->node = std::move(node);
  }
  spec->node->set(std::move(key), std::move(value));
}

}  // namespace calf::img
