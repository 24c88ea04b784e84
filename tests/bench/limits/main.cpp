#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include "tests/bench/limits/limits.h"

namespace {

using calf::bench::IoLimit;

int usage() {
  std::fputs(
      "usage: bench_limits kvm\n"
      "       bench_limits read|write FILE COUNT DEPTH [direct]\n"
      "       bench_limits allocate FILE COUNT DEPTH BYTES EVERY BASE|- [direct]\n"
      "       bench_limits copy FROM TO | compare FILE FILE | store FILE BYTES\n"
      "       bench_limits scan FILE | look FILE\n"
      "       bench_limits inflate FILE COUNT\n"
      "       bench_limits touch MIB\n"
      "       bench_limits run REPORT COMMAND\n",
      stderr);
  return 2;
}

int failed(int error) {
  std::fprintf(stderr, "bench_limits: %s\n", std::strerror(error));
  return 1;
}

int exit_code(int error) {
  return error == 0 ? 0 : failed(error);
}

uint64_t number(const char* word) {
  return std::strtoull(word, nullptr, 10);
}

std::optional<IoLimit> io_limit(std::string_view what, int argc, char** argv) {
  IoLimit limit{};
  int next = 5;
  if (what == "read") {
    limit.work = IoLimit::Work::kRead;
  } else if (what == "write") {
    limit.work = IoLimit::Work::kWrite;
  } else if (what == "allocate" && argc > 7) {
    limit.work = IoLimit::Work::kAllocate;
    limit.bytes = number(argv[5]);
    limit.every = number(argv[6]);
    limit.base = std::string_view(argv[7]) == "-" ? nullptr : argv[7];
    next = 8;
  } else {
    return std::nullopt;
  }
  if (argc < next) return std::nullopt;
  limit.file = argv[2];
  limit.count = number(argv[3]);
  limit.depth = static_cast<unsigned>(number(argv[4]));
  limit.direct = argc > next && std::string_view(argv[next]) == "direct";
  if (limit.count == 0 || limit.depth == 0 || limit.bytes == 0 || limit.every < limit.bytes)
    return std::nullopt;
  return limit;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "kvm") return exit_code(calf::bench::run_kvm_limit());
  if (what == "copy" && argc > 3) return exit_code(calf::bench::run_copy_limit(argv[2], argv[3]));
  if (what == "compare" && argc > 3) {
    return exit_code(calf::bench::run_compare_limit(argv[2], argv[3]));
  }
  if (what == "scan" && argc > 2) return exit_code(calf::bench::run_scan_limit(argv[2]));
  if (what == "look" && argc > 2) return exit_code(calf::bench::run_look_limit(argv[2]));
  if (what == "store" && argc > 3) {
    return exit_code(calf::bench::run_store_limit(argv[2], number(argv[3])));
  }
  if (what == "touch" && argc > 2) {
    return exit_code(calf::bench::touch_memory(number(argv[2]) << 20));
  }
  if (what == "run" && argc > 3) {
    int status = calf::bench::run_measured(argv[2], argv + 3);
    return status < 0 ? failed(-status) : status;
  }
  double seconds = 0;
  if (what == "inflate" && argc > 3) {
    seconds = calf::bench::run_inflate_limit(argv[2], number(argv[3]));
  } else {
    const std::optional<IoLimit> limit = io_limit(what, argc, argv);
    if (!limit) return usage();
    seconds = calf::bench::run_io_limit(*limit);
  }
  if (seconds < 0) return failed(static_cast<int>(-seconds));
  std::printf("Run completed in %.6f seconds.\n", seconds);
  return 0;
}
