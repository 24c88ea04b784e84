// Programs without a hypervisor or an image format in them, doing the least that the work needs.
#pragma once

#include <cstdint>

namespace calf::bench {

struct IoLimit {
  const char* file;
  uint64_t count;
  unsigned depth;  // 1: plain pread/pwrite; more: io_uring with that many in flight
  bool write;
  bool direct;
};

// Random 4 KiB requests to a raw file or device. Seconds; negative: errno of what failed.
double run_io_limit(const IoLimit& limit);

// One vCPU in real mode on 128 MiB whose first instruction writes to a port; then everything is
// closed. 0, or the errno of what failed.
int run_kvm_limit();

// Runs a command and writes "seconds CPU-seconds KiB\n" to the file `report`: wall time from spawn
// to end, CPU of the process and its children, largest RSS. A small process has to do this: what a
// process was before its exec counts as its RSS. Its exit status (128 + signal), or -errno.
int run_measured(const char* report, char** command);

}  // namespace calf::bench
