// amend: changes what an existing image is. A qcow2 image takes several steps, between which it is
// opened anew (qcow2/amend.h).
#pragma once

#include <functional>
#include <memory>

#include "block/node.h"
#include "block/qcow2/amend.h"

namespace calf::ops {

// Opens the image for writing.
using OpenImage = std::function<Async<std::unique_ptr<block::Node>>()>;

// `options` outlives the await. Formats other than qcow2 and luks are refused; luks has keys only.
Async<> amend(OpenImage open, const qcow2::AmendOptions& options);

}  // namespace calf::ops
