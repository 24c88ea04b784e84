// usage: bench_limits kvm | bench_limits read|write FILE COUNT DEPTH [direct]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "tests/bench/limits/limits.h"

namespace {

int usage() {
  std::fputs(
      "usage: bench_limits kvm | read|write FILE COUNT DEPTH [direct] | run REPORT COMMAND\n",
      stderr);
  return 2;
}

int failed(int error) {
  std::fprintf(stderr, "bench_limits: %s\n", std::strerror(error));
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "kvm") {
    int error = calf::bench::run_kvm_limit();
    return error == 0 ? 0 : failed(error);
  }
  if (what == "run" && argc > 3) {
    int status = calf::bench::run_measured(argv[2], argv + 3);
    return status < 0 ? failed(-status) : status;
  }
  bool write = what == "write";
  if ((!write && what != "read") || argc < 5) return usage();
  calf::bench::IoLimit limit{argv[2], std::strtoull(argv[3], nullptr, 10),
                             static_cast<unsigned>(std::strtoul(argv[4], nullptr, 10)), write,
                             argc > 5 && std::string_view(argv[5]) == "direct"};
  if (limit.count == 0 || limit.depth == 0) return usage();
  double seconds = calf::bench::run_io_limit(limit);
  if (seconds < 0) return failed(static_cast<int>(-seconds));
  std::printf("Run completed in %.6f seconds.\n", seconds);
  return 0;
}
