// The throw-away overlay of `calf -snapshot`: what a guest writes goes into a qcow2 file without a
// name, which is gone when the program ends, in whatever way. The base is only ever read.
//
// Flushes are not passed on (nothing in the file is worth keeping over a crash), and the file stops
// growing at a limit: the guest's write then fails with ENOSPC.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "block/io/executor.h"
#include "block/node.h"

namespace calf::block {

struct ScratchOptions {
  // Where the file is made.
  std::string folder;
  // Bytes that the file may have, metadata included.
  uint64_t limit = uint64_t{1} << 62;
};

// `base` is open read-only, alone or with its chain.
Async<std::unique_ptr<Node>> open_scratch_overlay(Executor& executor, std::unique_ptr<Node> base,
                                                  ScratchOptions options);

// The folder of the image at `path`: where its overlay goes unless the user says otherwise.
std::string folder_of(std::string_view path);

}  // namespace calf::block
