// Programs without a hypervisor or an image format in them, doing the least that the work needs.
#pragma once

#include <cstdint>

#include "tests/bench/limits/codec.h"

namespace calf::bench {

struct IoLimit {
  enum class Work {
    kRead,      // at random places
    kWrite,     // at random places
    kAllocate,  // `bytes` each, `every` so many bytes, into space that is reserved before
  };
  Work work;
  const char* file;
  uint64_t count;
  unsigned depth;  // 1: plain pread/pwrite; more: io_uring with that many in flight
  bool direct;
  uint64_t bytes = 4096;
  uint64_t every = 4096;
  // kAllocate: what is written is read here first, at a random place, through the page cache. May
  // be null.
  const char* base = nullptr;
};

// Requests to a raw file or device. Seconds; negative: errno of what failed.
double run_io_limit(const IoLimit& limit);

// Clusters of 64 KiB of a file, by two threads. Seconds; negative: errno of what failed.
// Packs each as fast as the library can and appends what comes out to the new file `to`.
double run_pack_limit(CodecKind kind, const char* from, const char* to);
// Unpacks as many (a sample was packed before, which does not count) into the new file `to`; null:
// compares it with what `from` holds.
double run_unpack_limit(CodecKind kind, const char* from, const char* to);

// Inflates so many clusters of a sample, packed before.
struct InflateLimit {
  const char* file;
  uint64_t clusters;
  unsigned threads;  // 1 or 2
  bool random;       // or one after the other
};
double run_inflate_limit(const InflateLimit& limit);

// Inflates a whole gzip file, as for the payload of a kernel. Seconds; negative: errno of what
// failed.
double run_gunzip_limit(const char* file);

// What has to be done at least for whole files, by two threads. 0, or the errno of what failed.
// Copies what is no hole of `from` to the new file `to`.
int run_copy_limit(const char* from, const char* to);
// Reads both files as far as the first one goes and compares; EPROTO if they differ.
int run_compare_limit(const char* first, const char* second);
// Reads what is no hole of the file.
int run_scan_limit(const char* file);
// Opens the file and reads its first 4 KiB, by one thread: what a program costs that does nothing.
int run_look_limit(const char* file);
// Writes `bytes` to a new file and waits until the disk has them.
int run_store_limit(const char* file, uint64_t bytes);

// One vCPU in real mode on 128 MiB whose first instruction writes to a port; then everything is
// closed. `say` (or null) is printed before, and with `stay` it stays until it is killed. 0, or the
// errno of what failed.
int run_kvm_limit(const char* say, bool stay);

// A guest that asks for one read after the other, at random places of the file, each answered by an
// interrupt: kvm_answers.cpp. Seconds; negative: errno of what failed.
double run_kvm_answers_limit(const char* file, uint64_t count, bool direct);

// Writes to so much fresh memory and gives it back. Where this machine is a guest, its hypervisor
// may take free memory away after a while, and whoever is the first to use it again waits ten times
// as long for a page: that is not to be measured as somebody's work. 0 or an errno.
int touch_memory(uint64_t bytes);

// Runs a command and writes "seconds CPU-seconds KiB\n" to the file `report`: wall time from spawn
// to end, CPU of the process and its children, largest RSS. A small process has to do this: what a
// process was before its exec counts as its RSS. Its exit status (128 + signal), or -errno.
int run_measured(const char* report, char** command);

}  // namespace calf::bench
