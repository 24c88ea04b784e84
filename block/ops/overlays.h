// Which images in a folder hang on which bases: what must not be changed or deleted.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "block/base_fingerprint.h"
#include "block/format_driver.h"
#include "block/io/executor.h"

namespace calf::ops {

struct Overlay {
  std::string path;
  std::string format;
  // As recorded in the overlay; never trusted.
  block::BackingReference backing;
  // The base as a path without symbolic links where it exists. Empty if the name cannot be one.
  std::string base;
  block::BaseState base_state = block::BaseState::kUnknown;
};

// Looks at the regular files in `folder` and, without following links, in the folders below it.
// Only begins and headers are read; what a header names is not opened. In the order of base and
// path. What could not be looked at goes to `problem`, one line each.
Async<std::vector<Overlay>> find_overlays(
    Executor& executor, const block::FormatTable& formats, std::string folder,
    const std::function<void(std::string_view line)>& problem);

}  // namespace calf::ops
