// What an overlay notes about its base, so that a base that was changed afterwards is noticed.
//
// An overlay holds only what differs from its base. Written to, the base takes the ground from
// under it: the disk that a guest sees is then a mixture of two file systems. So overlays that calf
// makes carry a header extension that other programs keep and ignore:
//
//     be32 layout (1) | be32 digest | be64 length | be64 mtime, s | be32 mtime, ns | be32 name
//
//   length, mtime   of the base file. Both as noted: it has not changed, and nothing else is read.
//   digest          CRC-32 of samples of the file (all of a small one; else its begin, its end and
//                   pieces in between: what every mount touches) and of the format's own tables
//                   (qcow2: L1 and L2). It decides when the time differs, so a base that was
//                   copied, restored or touched is the same base.
//   name            CRC-32 of the backing file's name as recorded: an overlay that another program
//                   put on a new base (which knows nothing of this) has nothing noted about that.
//
// Bounded: at most 4 MiB of samples and 16 MiB of tables are read. Not noticed: a change that keeps
// the length and touches neither samples nor tables (a file edited in place deep inside).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/file_node.h"
#include "block/format_driver.h"

namespace calf::block {

struct BaseFingerprint {
  uint32_t digest = 0;
  uint64_t length = 0;
  int64_t mtime_sec = 0;
  uint32_t mtime_nsec = 0;
  uint32_t name = 0;

  // Nothing for a layout that is not ours.
  static std::optional<BaseFingerprint> decode(std::span<const uint8_t> bytes);
  std::vector<uint8_t> encode() const;
};

// The extension's data for an overlay that records its base as `recorded_name`; the base is the
// file at `path` with format `format`, which is read without a lock.
Async<std::vector<uint8_t>> fingerprint_base(Executor& executor, const FormatTable& formats,
                                             std::string path, std::string format,
                                             std::string recorded_name);

enum class BaseState : uint8_t { kUnknown, kAsNoted, kTouched, kChanged, kMissing };

// What length and time of the file at `path` say about it, which is not opened. kTouched: only the
// time is another.
BaseState look_at_base(const std::string& path, const std::string& recorded_name,
                       std::span<const uint8_t> noted);

// Is `file` still what `noted` (an extension's data, from an overlay that records its base as
// `recorded_name`) was made from? True if nothing is known.
Async<bool> is_same_base(Executor& executor, FileNode& file, const FormatDriver& driver,
                         std::vector<uint8_t> noted, std::string recorded_name);

}  // namespace calf::block
