// Which image format do these bytes begin? Guessing is only for people at a prompt: a guest that
// may write its raw disk could put any header there, so nobody asks this about an image of a guest
// (see graph.h), and a raw node that came out of a guess refuses to be given such a header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace calf::block {

// So many bytes of the file's begin are enough.
constexpr size_t kProbeBytes = 2048;

// QEMU's name of the format whose signature stands in `head`; "raw" if there is none. Knows formats
// that we cannot open, too.
std::string_view probe_format(std::span<const uint8_t> head);

}  // namespace calf::block
