// From the words of a command line to what is to be opened: names (node_name.h) and option lists
// (--image-opts). Contract section 2.3.
#pragma once

#include <optional>
#include <string>

#include "block/graph.h"
#include "block/tool/context.h"

namespace calf::img {

// How a subcommand names and opens one image.
struct ImageArguments {
  std::string name;
  std::optional<std::string> format;
  bool image_opts = false;
  // Write to it although its base was changed after it was made.
  bool force = false;
};

// Where a new image goes: a file of this host, which is made or emptied, or an export of a server,
// which is there and keeps its size.
struct ImagePlace {
  // Empty for an export.
  std::string path;
  // The export.
  std::optional<block::NodeDescription> node;

  // The file that an image here means by a name that it records.
  Result<std::string> resolve(const std::string& recorded) const;
};

// Of names that are a path, file:PATH or an export's.
Result<ImagePlace> place_of_name(const std::string& name);

// A spec with what was named and its format (probing allowed, raw files shared, messages go to
// stderr). Errors as "Could not open 'NAME': …".
Result<block::OpenSpec> open_spec(const Context& context, const ImageArguments& image);

// The file of this host behind a spec; empty if it is none.
std::string path_of_spec(const block::OpenSpec& spec);
// What the image is called in answers; `format` is that of the opened node.
std::string shown_name(const block::OpenSpec& spec, std::string_view format);

// Adds an option of the node itself to what is to be opened.
void set_node_option(block::OpenSpec* spec, std::string key, std::string value);

}  // namespace calf::img
