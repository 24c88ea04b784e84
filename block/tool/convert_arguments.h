// The command line of convert, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "block/cache_mode.h"
#include "block/tool/image_name.h"
#include "block/tool/snapshot_option.h"

namespace calf::img {

struct ConvertArguments {
  std::vector<std::string> sources;
  std::string target;
  std::optional<std::string> source_format;
  std::string target_format = "raw";
  bool image_opts = false;
  bool target_image_opts = false;
  bool target_is_zero = false;
  bool no_create = false;
  bool compress = false;
  bool quiet = false;
  bool progress = false;
  bool force_share = false;
  // See ImageArguments; of the target.
  bool force = false;
  bool out_of_order = false;
  bool salvage = false;
  // -C
  bool offload = false;
  bool bitmaps = false;
  bool skip_broken_bitmaps = false;
  // Of the source.
  std::optional<ops::SnapshotChoice> snapshot;
  std::optional<std::string> backing;
  std::optional<std::string> backing_format;
  std::string options;
  uint64_t sparse = 4096;
  unsigned parallel = 8;
  uint64_t rate = 0;
  block::CacheMode target_cache{.no_flush = true};
  block::CacheMode source_cache;
};

// An exit code if the subcommand ends here (errors are printed).
std::optional<int> parse_convert_arguments(const Context& context, int argc, char** argv,
                                           ConvertArguments* args);

}  // namespace calf::img
