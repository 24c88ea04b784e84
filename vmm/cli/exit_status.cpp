#include "vmm/cli/exit_status.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

namespace calf::vmm {
namespace {

enum StrictStatus : int {
  kBadCommandLine = 2,
  kReset = 32,
  kTripleFaultOrKvm = 33,
  kPanic = 34,
  kTimeout = 36,
  kDiskError = 39,
};

}  // namespace

int exit_status(const RunResult& result, bool strict) {
  switch (result.reason) {
    case EndReason::kPowerOff:
      return 0;
    case EndReason::kQuit:
      return strict ? 1 : 0;
    case EndReason::kDebugExit:
      return static_cast<int>((result.debug_exit_value << 1 | 1) & 0xff);
    case EndReason::kReset:
      return strict ? kReset : 0;
    case EndReason::kTripleFault:
      return strict ? kTripleFaultOrKvm : 0;
    case EndReason::kPanic:
      return strict ? kPanic : 1;
    case EndReason::kTimeout:
      return kTimeout;
    case EndReason::kDiskError:
      return strict ? kDiskError : 1;
    case EndReason::kInternalError:
      return strict ? kTripleFaultOrKvm : 1;
  }
  return 1;
}

int usage_status(bool strict) {
  return strict ? kBadCommandLine : 1;
}

Result<void> write_result_file(const std::string& path, const RunResult& result, int status) {
  nlohmann::ordered_json json;
  json["reason"] = to_string(result.reason);
  json["exit-code"] = status;
  if (result.reason == EndReason::kDebugExit) json["debug-exit-value"] = result.debug_exit_value;
  if (!result.text.empty()) json["text"] = result.text;
  json["phases-ms"] = nlohmann::ordered_json::object();
  for (const Phases::Phase& phase : result.phases.reached) {
    const std::chrono::nanoseconds since = phase.at - result.phases.build_started;
    json["phases-ms"][phase.name] = std::chrono::duration<double, std::milli>(since).count();
  }
  const Statistics& s = result.statistics;
  json["statistics"] = {{"exits", s.exits},
                        {"io-exits", s.io_exits},
                        {"mmio-exits", s.mmio_exits},
                        {"completed-instructions", s.completed_instructions},
                        {"resets", s.resets},
                        {"disk-requests", s.disk_queues.requests},
                        {"disk-kicks", s.disk_queues.kicks},
                        {"disk-interrupts", s.disk_queues.interrupts},
                        {"disk-io-entries", s.disk_entries}};
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  json["peak-rss-kib"] = usage.ru_maxrss;

  std::string temporary = path + ".tmp";
  std::ofstream file(temporary, std::ios::trunc);
  file << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  file.close();
  if (!file || std::rename(temporary.c_str(), path.c_str()) != 0) {
    return Error::from_errno(errno, fmt::format("Could not write '{}'", path));
  }
  return {};
}

}  // namespace calf::vmm
