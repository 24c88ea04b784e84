// How a node shows itself back: by a plain name if opening that name would give the same node, else
// as json:{…} with the options that matter for its content. Contract section 2.3.
#pragma once

#include <string>
#include <string_view>

#include "block/node_description.h"

namespace calf::block {

// `format`: the driver, should the description name none (it was probed then).
std::string shown_name(const NodeDescription& description, std::string_view format);

// The file of this host at the bottom of a description, as a plain path; empty if there is none.
std::string file_below(const NodeDescription& description);

}  // namespace calf::block
