// The gate for names that stand in an image. Whoever made the image chose them, so:
//
//  * they are paths, whatever they look like: "nbd:…", "json:…", "file:…" are file names here
//    (only what the user types may name a protocol);
//  * a relative one is relative to the folder of the image that holds it;
//  * empty ones, overlong ones and ones with a NUL are refused.
//
// That the file is a regular one or a block device is FileNode's to check.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "block/base/result.h"

namespace calf::block {

// The longest name that a qcow2 header can hold.
constexpr size_t kMaxRecordedName = 1023;

// `recorded` as a path from here, when it stands in the image at path `image`.
Result<std::string> resolve_recorded_name(std::string_view image, std::string_view recorded);

}  // namespace calf::block
