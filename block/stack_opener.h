// StackOpener: what stands below a format: a file or an export, and filters and formats on top of
// it.
//
//     format driver          (LayerOpener)
//       filter   blkdebug  ┐
//       file     file, nbd ┘ a stack: opened from the bottom up, locked as the formats on it want
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "block/file_node.h"
#include "block/generic_options.h"
#include "block/graph.h"

namespace calf::block {

// Nodes between a format and its file.
inline constexpr unsigned kMaxStack = 32;

Error unknown_driver(std::string_view name);
Error too_deep();
// The protocols that are files of this host.
bool is_file_driver(std::string_view name);
// Fails with the name of an option that nobody took out of the description.
Result<void> refuse_rest(const NodeDescription& description, std::string_view driver,
                         bool is_format);
// The description of the node below a filter.
Result<NodeDescription> take_filtered(const FilterDriver& filter, NodeDescription* description);

// What is asked of one layer, and so of each node of its stack.
struct LayerAccess {
  bool writable = false;
  bool is_base = false;
};

class StackOpener {
 public:
  struct Stack {
    std::unique_ptr<Node> node;
    // The file at the bottom, if it is one.
    FileNode* file = nullptr;
    // What the formats of the stack want locked.
    LockRequest lock;
  };

  // All of them outlive the opener.
  StackOpener(Executor& executor, const FormatTable& formats, const OpenSpec& spec)
      : executor_(executor), formats_(formats), spec_(spec) {}

  // Before the first stack of a layer.
  void begin_layer(LayerAccess access) {
    access_ = access;
    locking_ = true;
  }
  // `depth`: nodes that stand on it already.
  Async<Stack> open(NodeDescription description, Inherited inherited, unsigned depth);
  // Locks the file, if there is one and its options do not say otherwise.
  Result<void> lock(const Stack& stack, Inherited inherited) const;
  // A format on top of `file`. `path`: the file that names recorded in the image are relative to;
  // empty if there is none, and such names are not followed.
  Async<OpenedFormat> open_format(const FormatDriver& driver, std::unique_ptr<Node> file,
                                  NodeDescription* description, Inherited inherited, bool probed,
                                  std::string path);
  // To OpenSpec::damaged, if that is what the error says.
  void tell_damage(const Error& error, const std::string& path, const FormatDriver& driver) const;

 private:
  Async<Stack> open_file(NodeDescription* description, Inherited inherited);
  Async<Stack> open_inner_format(const FormatDriver& driver, NodeDescription* description,
                                 Inherited inherited, unsigned depth);
  // A file that the image at `image` names beside itself.
  Async<std::unique_ptr<Node>> open_beside(std::string image, std::string recorded,
                                           Inherited inherited);
  // Fails if the file is one of those above.
  Result<void> note_file(const std::string& path, const FileNode* file);

  Executor& executor_;
  const FormatTable& formats_;
  const OpenSpec& spec_;
  // Of the layer being opened.
  LayerAccess access_;
  bool locking_ = true;
  // Of all layers.
  std::vector<FileId> files_;
};

}  // namespace calf::block
