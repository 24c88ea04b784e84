// New image files, with the options of `create`.
#pragma once

#include <string>

#include "block/node.h"
#include "block/tool/context.h"
#include "block/tool/create_options.h"
#include "block/tool/image_name.h"

namespace calf::img {

// Makes an image with a checked set of options (size included). Error texts without "FILE: ". A
// file that was made and could not be finished is removed again. `place` and `options` outlive the
// await.
Async<> create_image(const Context& context, std::string format, const ImagePlace& place,
                     const CreateOptions& options);

// Does an image that create_image() just made read as zeroes? (Not on a device or in an
// export, which keep what was there, nor above a backing file.) Its size is not 0.
Async<bool> new_image_is_zero(block::Node& image);

}  // namespace calf::img
