// check: compares what the tables refer to with what the refcounts say.
//
// All refcounts are held in memory, paged by what is referenced, so time and memory follow the
// allocated bytes of the file and never its virtual or apparent size. Each L2 table is read once,
// however many snapshots share it.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "block/base/deadline.h"
#include "block/qcow2/image.h"

namespace calf::qcow2 {

enum class Repair : uint8_t { kNone, kLeaks, kAll };

// The numbers of `qemu-img check` (contract sections 5.3 and 5.4).
struct CheckResult {
  uint64_t corruptions = 0;
  uint64_t leaks = 0;
  uint64_t check_errors = 0;
  uint64_t corruptions_fixed = 0;
  uint64_t leaks_fixed = 0;
  uint64_t total_clusters = 0;
  uint64_t allocated_clusters = 0;
  uint64_t fragmented_clusters = 0;
  uint64_t compressed_clusters = 0;
  uint64_t image_end_offset = 0;
};

// Receives each finding as one line without newline, in the texts of contract section 6.4.
using FindingSink = std::function<void(std::string_view line)>;

// The image was opened with for_check, and writable if `repair` is not kNone; no request is in
// flight. One pass: the caller runs it again after a repair and reports that result, with the
// *_fixed numbers of the first. An error means that the check could not finish: kCancelled, that
// `deadline` was over, which a repair has none of. `sink` outlives the await.
Async<CheckResult> check(Image& image, Repair repair, const FindingSink& sink,
                         Deadline deadline = {});

}  // namespace calf::qcow2
