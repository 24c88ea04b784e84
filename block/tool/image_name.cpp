#include "block/tool/image_name.h"

#include <algorithm>
#include <array>

#include "block/tool/option_list.h"

namespace calf::img {
namespace {

// Protocols that qemu-img has, for a better error than "unknown".
constexpr std::array kOtherProtocols = {
    "json", "nbd",       "nbd+tcp",  "nbd+unix",    "http",       "https",       "ftp", "ftps",
    "ssh",  "nfs",       "iscsi",    "rbd",         "gluster",    "blkdebug",    "fat", "null-co",
    "nvme", "blkverify", "null-aio", "host_device", "host_cdrom", "blklogwrites"};

Error cannot_open(const std::string& name, Error why) {
  return std::move(why).with_context(fmt::format("Could not open '{}'", name));
}

Result<block::OpenSpec> spec_of_list(const std::string& text) {
  TRY(OptionList list, OptionList::parse(text, "file"));
  block::OpenSpec spec;
  if (auto node = list.get("file")) {
    return make_error(ErrorKind::kInvalid, "Cannot find device='{0}' nor node-name='{0}'", *node);
  }
  spec.format = list.get("driver");
  if (!spec.format && list.items().empty()) {
    return make_error(ErrorKind::kInvalid, "Must specify either driver or file");
  }
  for (const auto& [key, value] : list.items()) {
    if (key == "driver" || key == "node-name") continue;
    if (key == "file.filename") {
      spec.filename = value;
    } else if (key == "file.driver") {
      if (value != "file") {
        return make_error(ErrorKind::kUnsupported, "Protocol '{}' is not supported yet", value);
      }
    } else if (key == "force-share") {
      spec.force_share = value == "on";
    } else if (key == "read-only") {
      // Readers open read-only anyway, and a writer finds out by trying.
    } else if (key.starts_with("file.") || key.starts_with("backing") ||
               key.find('.') != key.npos) {
      return make_error(ErrorKind::kUnsupported, "The option '{}' is not supported yet", key);
    } else {
      return make_error(ErrorKind::kInvalid, "Block format '{}' does not support the option '{}'",
                        spec.format.value_or("file"), key);
    }
  }
  if (!list.get("file.filename")) {
    return make_error(ErrorKind::kInvalid, "A block device must be specified for \"file\"");
  }
  return spec;
}

}  // namespace

Result<std::string> path_of_name(const std::string& name) {
  size_t colon = name.find(':');
  if (colon == std::string::npos || name.find('/') < colon) return name;
  std::string protocol = name.substr(0, colon);
  if (protocol == "file") return name.substr(colon + 1);
  bool known =
      std::find(kOtherProtocols.begin(), kOtherProtocols.end(), protocol) != kOtherProtocols.end();
  if (known) {
    return make_error(ErrorKind::kUnsupported,
                      "Protocol '{}' is not supported yet (for a file of that name write './{}')",
                      protocol, name);
  }
  return make_error(ErrorKind::kInvalid, "Unknown protocol '{}'", protocol);
}

Result<block::OpenSpec> open_spec(const Context& context, const ImageArguments& image) {
  block::OpenSpec spec;
  if (image.image_opts) {
    Result<block::OpenSpec> listed = spec_of_list(image.name);
    if (!listed.ok()) return cannot_open(image.name, std::move(listed.error()));
    spec = std::move(*listed);
  } else {
    Result<std::string> path = path_of_name(image.name);
    if (!path.ok()) return cannot_open(image.name, std::move(path.error()));
    spec.filename = std::move(*path);
    spec.format = image.format;
  }
  spec.probing = block::Probing::kAny;
  spec.share_raw = true;
  const Context* out = &context;
  spec.message = [out](std::string_view line) { out->note(line); };
  return spec;
}

}  // namespace calf::img
