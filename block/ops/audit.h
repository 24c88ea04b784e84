// audit: may a service take this file from a stranger? One look at the file alone: whatever it
// names is not opened. Time and memory are those of opening an image (header, at most 32 MiB of L1
// table and 64 MiB each of snapshot table and bitmap directory); with `deep`, those of a check,
// which follow the file's allocated bytes up to a limit of time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "block/format_driver.h"
#include "block/io/executor.h"

namespace calf::ops {

// Far above what a sound image of some terabytes needs.
constexpr std::chrono::seconds kDefaultAuditTime{60};

struct AuditRules {
  // The format that the service expects; what else the file looks like is refused.
  std::optional<std::string> format;
  // The largest disk it takes.
  std::optional<uint64_t> max_size;
  // Walk the tables too, and be done with all of it by then: a file that cannot be judged in time
  // is refused.
  bool deep = false;
  std::chrono::seconds time_limit = kDefaultAuditTime;
};

enum class Severity : uint8_t { kNote, kRefuse };

struct Finding {
  Severity severity = Severity::kNote;
  // A word for programs: "names-backing-file".
  std::string rule;
  std::string text;
};

// Another file that the image wants opened.
struct NamedFile {
  std::string role;
  // As recorded; never trusted.
  std::string name;
  std::optional<std::string> format;
};

struct AuditReport {
  // By the first bytes.
  std::string format;
  uint64_t file_length = 0;
  uint64_t allocated = 0;
  // 0 if the image could not be opened.
  uint64_t virtual_size = 0;
  std::vector<NamedFile> names;
  std::vector<std::string> features;
  uint64_t snapshots = 0;
  uint64_t bitmaps = 0;
  // Of tables that every program which opens the image reads.
  uint64_t table_bytes = 0;
  std::vector<Finding> findings;

  bool refused() const;
};

// An error if the file cannot be read; everything else is a finding.
Async<AuditReport> audit(Executor& executor, const block::FormatTable& formats, std::string path,
                         AuditRules rules);

}  // namespace calf::ops
