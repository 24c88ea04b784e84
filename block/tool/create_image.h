// New image files, with the options of `create`.
#pragma once

#include <string>

#include "block/node.h"
#include "block/tool/context.h"
#include "block/tool/create_options.h"

namespace calf::img {

// Makes the file at `path` with a checked set of options (size included). Error texts without
// "FILE: ". A file that was made and could not be finished is removed again.
Async<> create_image(const Context& context, std::string format, std::string path,
                     const CreateOptions& options);

// Does an image that create_image() just made read as zeroes? (Not on a device, which keeps what
// was on it, nor above a backing file.) Its size is not 0.
Async<bool> new_image_is_zero(block::Node& image);

}  // namespace calf::img
