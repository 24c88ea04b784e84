#include "block/formats/qcow2_runtime.h"

#include <algorithm>
#include <array>
#include <string>

namespace calf::block {
namespace {

constexpr std::array kSwitches = {"lazy-refcounts", "pass-discard-request", "pass-discard-snapshot",
                                  "pass-discard-other"};
constexpr std::array kSizes = {"cache-size", "l2-cache-size", "refcount-cache-size"};
constexpr std::array kAreas = {"main-header",    "active-l1",      "active-l2",
                               "refcount-table", "refcount-block", "snapshot-table",
                               "inactive-l1",    "inactive-l2",    "bitmap-directory"};
constexpr uint64_t kMinL2Entries = 512;
constexpr uint64_t kMaxCluster = uint64_t{2} << 20;

Result<void> check_template(const std::optional<std::string>& value, std::string_view key) {
  static constexpr std::array kTemplates = {"none", "constant", "cached", "all"};
  if (!value || std::find(kTemplates.begin(), kTemplates.end(), *value) != kTemplates.end()) {
    return {};
  }
  return make_error(ErrorKind::kInvalid,
                    "Unsupported value '{}' for qcow2 option '{}'. Allowed are any of the "
                    "following: none, constant, cached, all",
                    *value, key);
}

Result<void> take_overlap_check(NodeDescription* description) {
  std::optional<std::string> whole = description->take_text("overlap-check");
  std::optional<std::string> named = description->take_text("overlap-check.template");
  if (whole && named && *whole != *named) {
    return make_error(ErrorKind::kInvalid,
                      "Conflicting values for qcow2 options 'overlap-check' ('{}') and "
                      "'overlap-check.template' ('{}')",
                      *whole, *named);
  }
  TRY_VOID(check_template(whole, "overlap-check"));
  TRY_VOID(check_template(named, "overlap-check"));
  for (const char* area : kAreas) {
    TRY_VOID(description->take_switch(std::string("overlap-check.") + area));
  }
  return {};
}

Result<void> take_caches(NodeDescription* description) {
  std::optional<uint64_t> sizes[kSizes.size()];
  for (size_t i = 0; i < kSizes.size(); ++i) {
    TRY(sizes[i], description->take_size(kSizes[i]));
  }
  if (sizes[0] && sizes[1] && sizes[2]) {
    return Error(ErrorKind::kInvalid,
                 "cache-size, l2-cache-size and refcount-cache-size may not be set at the same "
                 "time");
  }
  if (sizes[0] && sizes[1] && *sizes[1] > *sizes[0]) {
    return Error(ErrorKind::kInvalid, "l2-cache-size may not exceed cache-size");
  }
  if (sizes[0] && sizes[2] && *sizes[2] > *sizes[0]) {
    return Error(ErrorKind::kInvalid, "refcount-cache-size may not exceed cache-size");
  }
  TRY(std::optional<uint64_t> entry, description->take_size("l2-cache-entry-size"));
  bool power = entry && *entry != 0 && (*entry & (*entry - 1)) == 0;
  if (entry && (!power || *entry < kMinL2Entries || *entry > kMaxCluster)) {
    return Error(ErrorKind::kInvalid,
                 "L2 cache entry size must be a power of two between 512 and the cluster size");
  }
  TRY(std::optional<uint64_t> interval, description->take_number("cache-clean-interval"));
  if (interval && *interval > UINT32_MAX) {
    return Error(ErrorKind::kInvalid, "Cache clean interval too big");
  }
  return {};
}

}  // namespace

Result<void> take_qcow2_runtime_options(NodeDescription* description) {
  for (const char* name : kSwitches) {
    TRY_VOID(description->take_switch(name));
  }
  TRY_VOID(take_overlap_check(description));
  return take_caches(description);
}

}  // namespace calf::block
