#include "block/stack_opener.h"

#include <sys/stat.h>

#include <algorithm>

#include "block/base/log.h"
#include "block/open_gate.h"
#include "block/protocol_driver.h"

namespace calf::block {

Error unknown_driver(std::string_view name) {
  return make_error(ErrorKind::kUnsupported, "Unknown driver '{}'", name);
}

Error too_deep() {
  return make_error(ErrorKind::kInvalid, "More than {} nodes stand on one file", kMaxStack);
}

bool is_file_driver(std::string_view name) {
  return name == "file" || name == "host_device";
}

Result<void> refuse_rest(const NodeDescription& description, std::string_view driver,
                         bool is_format) {
  if (description.empty()) return {};
  const std::string& key = description.items().front().first;
  if (is_format) {
    return make_error(ErrorKind::kInvalid, "Block format '{}' does not support the option '{}'",
                      driver, key);
  }
  return make_error(ErrorKind::kInvalid, "Block protocol '{}' doesn't support the option '{}'",
                    driver, key);
}

Result<NodeDescription> take_filtered(const FilterDriver& filter, NodeDescription* description) {
  if (!description->has_child(filter.child())) {
    return make_error(ErrorKind::kInvalid, "A block device must be specified for \"{}\"",
                      filter.child());
  }
  TRY(NodeDescription below, description->take_child(filter.child()));
  // Nothing is guessed here.
  if (!below.has("driver")) below.set("driver", "file");
  return below;
}

Result<void> StackOpener::note_file(const std::string& path, const FileNode* file) {
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

Async<StackOpener::Stack> StackOpener::open_file(NodeDescription* description,
                                                 Inherited inherited) {
  std::string driver = description->take_text("driver").value_or("file");
  std::string path = description->take_text("filename").value_or("");
  CO_TRY(std::optional<std::string> locking,
         description->take_choice("locking", {"on", "off", "auto"}));
  CO_TRY(std::optional<std::string> aio,
         description->take_choice("aio", {"threads", "native", "io_uring"}));
  CO_TRY_VOID(description->take_switch("drop-cache"));
  CO_TRY_VOID(description->take_switch("x-check-cache-dropped"));
  CO_TRY_VOID(refuse_rest(*description, driver, false));
  if (locking == "off") locking_ = false;

  // Asked before the open and again after it: the first answer keeps our own lock out of the error.
  CO_TRY_VOID(note_file(path, nullptr));
  FileOptions options{
      .writable = access_.writable, .cache = inherited.cache, .discard = inherited.discard};
  CO_TRY(std::unique_ptr<FileNode> file, co_await FileNode::open(executor_, path, options));
  CO_TRY_VOID(note_file(path, file.get()));
  if (driver == "host_device" && !file->is_block_device()) {
    co_return make_error(ErrorKind::kInvalid,
                         "'host_device' driver requires '{}' to be either a character or block "
                         "device",
                         path);
  }
  Stack stack;
  stack.file = file.get();
  stack.node = std::move(file);
  co_return stack;
}

Async<StackOpener::Stack> StackOpener::open_inner_format(const FormatDriver& driver,
                                                         NodeDescription* description,
                                                         Inherited inherited, unsigned depth) {
  if (!description->has_child("file")) {
    co_return Error(ErrorKind::kInvalid, "A block device must be specified for \"file\"");
  }
  CO_TRY(NodeDescription below, description->take_child("file"));
  CO_TRY(Stack stack, co_await open(std::move(below), inherited, depth + 1));
  LockRequest request = driver.lock_request(access_.writable, Role::kBase);
  stack.lock.uses |= request.uses;
  stack.lock.refuses |= request.refuses;
  CO_TRY(OpenedFormat opened,
         co_await open_format(driver, std::move(stack.node), description, inherited, false, ""));
  if (opened.backing) {
    Result<void> ignored = co_await opened.node->close();
    co_return make_error(ErrorKind::kUnsupported,
                         "An image with a backing file cannot be the file of another image");
  }
  stack.node = std::move(opened.node);
  co_return stack;
}

Async<StackOpener::Stack> StackOpener::open(NodeDescription description, Inherited inherited,
                                            unsigned depth) {
  if (depth > kMaxStack) co_return too_deep();
  CO_TRY(GenericOptions generic, GenericOptions::take(&description, inherited));
  if (generic.read_only.value_or(false) && access_.writable) {
    co_return Error(ErrorKind::kReadOnly, "Block node is read-only");
  }
  std::string driver = description.text("driver").value_or("file");
  if (is_file_driver(driver)) {
    co_return co_await open_file(&description, generic.inherited);
  }
  description.take("driver");
  Stack stack;
  if (const ProtocolDriver* protocol = formats_.find_protocol(driver)) {
    ProtocolOptions options{access_.writable, generic.inherited.cache.no_flush};
    CO_TRY(stack.node, co_await protocol->open(executor_, &description, options));
  } else if (const FilterDriver* filter = formats_.find_filter(driver)) {
    CO_TRY(NodeDescription below, take_filtered(*filter, &description));
    CO_TRY(stack, co_await open(std::move(below), generic.inherited, depth + 1));
    CO_TRY(stack.node, filter->open(executor_, std::move(stack.node), &description));
  } else if (const FormatDriver* format = formats_.find(driver)) {
    co_return co_await open_inner_format(*format, &description, generic.inherited, depth);
  } else {
    co_return unknown_driver(driver);
  }
  Result<void> known = refuse_rest(description, driver, false);
  if (!known.ok()) {
    Result<void> ignored = co_await stack.node->close();
    co_return std::move(known.error());
  }
  co_return stack;
}

Async<OpenedFormat> StackOpener::open_format(const FormatDriver& driver, std::unique_ptr<Node> file,
                                             NodeDescription* description, Inherited inherited,
                                             bool probed, std::string path) {
  FormatOptions options;
  options.writable = access_.writable;
  options.probed = probed;
  options.no_flush = inherited.cache.no_flush;
  options.info_only = spec_.info_only;
  options.for_check = spec_.for_check && !access_.is_base;
  options.message = spec_.message;
  options.description = description;
  if (!path.empty()) {
    options.open_beside = [this, path, inherited](std::string recorded) {
      return open_beside(path, std::move(recorded), inherited);
    };
  }
  options.secrets = spec_.secrets;
  Result<OpenedFormat> tried = co_await driver.open(executor_, std::move(file), std::move(options));
  if (!tried.ok()) tell_damage(tried.error(), path, driver);
  CO_TRY(OpenedFormat opened, std::move(tried));
  Result<void> known = refuse_rest(*description, driver.name(), true);
  if (!known.ok()) {
    Result<void> ignored = co_await opened.node->close();
    co_return std::move(known.error());
  }
  co_return opened;
}

void StackOpener::tell_damage(const Error& error, const std::string& path,
                              const FormatDriver& driver) const {
  if (error.kind() == ErrorKind::kCorrupt && spec_.damaged) spec_.damaged(path, driver);
}

Result<void> StackOpener::lock(const Stack& stack, Inherited inherited) const {
  if (stack.file == nullptr || !locking_) return {};
  LockRequest request = stack.lock;
  if (inherited.force_share) request.refuses = 0;
  return stack.file->lock(request);
}

Async<std::unique_ptr<Node>> StackOpener::open_beside(std::string image, std::string recorded,
                                                      Inherited inherited) {
  CO_TRY(std::string path, resolve_recorded_name(image, recorded));
  NodeDescription description = NodeDescription::of_file(std::move(path));
  CO_TRY(Stack stack, co_await open(std::move(description), inherited, 1));
  stack.lock = kLockFormatReader;
  CO_TRY_VOID(lock(stack, inherited));
  co_return std::move(stack.node);
}

}  // namespace calf::block
