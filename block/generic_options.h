// The options that every node of a description takes, whatever its driver. Contract section 4.5.
#pragma once

#include <cstdint>
#include <optional>

#include "block/cache_mode.h"
#include "block/node_description.h"

namespace calf::block {

enum class DetectZeroes : uint8_t {
  kOff,
  kOn,     // a write of zeroes becomes write_zeroes()
  kUnmap,  // and may give the space back
};

// What a node inherits from the one above it, or from the program.
struct Inherited {
  CacheMode cache;
  // Freed ranges are punched out of the file.
  bool discard = false;
  bool force_share = false;
};

struct GenericOptions {
  std::optional<bool> read_only;
  std::optional<bool> force_share;
  DetectZeroes detect_zeroes = DetectZeroes::kOff;
  // For this node and those below it.
  Inherited inherited;

  // Takes them out of `description`.
  static Result<GenericOptions> take(NodeDescription* description, const Inherited& from_above);
};

}  // namespace calf::block
