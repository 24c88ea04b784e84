// From the words of a command line to what is to be opened: plain paths, file:PATH, and option
// lists (--image-opts). Contract section 2.3.
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
};

// The path behind a name, where the name is a path or file:PATH.
Result<std::string> path_of_name(const std::string& name);

// A spec with the file name and the format (probing allowed, raw files shared, messages go to
// stderr). Errors as "Could not open 'NAME': …".
Result<block::OpenSpec> open_spec(const Context& context, const ImageArguments& image);

}  // namespace calf::img
